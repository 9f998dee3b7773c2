package main

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/bootmend/bootmend/bitlocker/keys/ad/adtest"
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
