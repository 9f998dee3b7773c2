package main

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/bootmend/bootmend/bitlocker/keys/ad/adtest"
	"github.com/bootmend/bootmend/bitlocker/keys/entra/entratest"
)

// TestFetchAD runs a script beside a directory server.
func TestFetchAD(t *testing.T) {
	var objects []adtest.Object
	for i := range 3 {
		o := adtest.Object{Computer: fmt.Sprintf("PC-%d", i+1), OU: []string{"Berlin", "Paris"}[i%2], Time: "2024-03-11T08:12:00+01:00",
			Key: fmt.Sprintf("%06d-220022-330033-440044-550055-660066-111111-222222", 110011+11*i)}
		binary.LittleEndian.PutUint32(o.ID[:], uint32(i)+1)
		objects = append(objects, o)
	}
	server := adtest.Start(t, objects, nil)
	testscript.Run(t, testscript.Params{
		Files: []string{"testdata/servers/fetch_ad.txtar"},
		Setup: func(e *testscript.Env) error {
			e.Setenv("LDAP", server.LDAP)
			e.Setenv("LDAPS", server.LDAPS)
			e.Setenv("CA", server.CA)
			e.Setenv("READER", adtest.Reader)
			e.Setenv("CLERK", adtest.Clerk)
			return nil
		},
	})
}

// TestFetchEntra runs a script beside a small Graph.
func TestFetchEntra(t *testing.T) {
	var all []entratest.Key
	for i := range 6 {
		all = append(all, entratest.Key{ID: fmt.Sprintf("11111111-2222-3333-4444-55555555550%d", i), Name: fmt.Sprintf("PC-%d", i),
			Device: fmt.Sprintf("99999999-2222-3333-4444-55555555550%d", i),
			Key:    fmt.Sprintf("%06d-220022-330033-440044-550055-660066-111111-222222", 110011+11*i)})
	}
	good, stops := entratest.Start(t, all), entratest.Start(t, all)
	good.Throttle, good.TokenLife = 5, 8
	stops.FailAfter = 3
	testscript.Run(t, testscript.Params{
		Files: []string{"testdata/servers/fetch_entra.txtar"},
		Setup: func(e *testscript.Env) error {
			e.Setenv("GRAPH", good.URL)
			e.Setenv("STOPS", stops.URL)
			return nil
		},
	})
	// Two runs of the script read them all; what the half-way run had was not asked for again.
	again := 0
	for _, n := range good.Asked() {
		if n == 3 {
			again++
		}
	}
	if again == 6 {
		t.Error("the interrupted run was begun anew")
	}
}
