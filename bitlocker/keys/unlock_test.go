package keys

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/fvetest"
)

type disk []byte

func (d disk) WriteAt(p []byte, off int64) (int, error) { return copy(d[off:], p), nil }

func TestUnlock(t *testing.T) {
	const size = fvetest.MinSize
	volume := make(disk, size)
	made, err := fvetest.Format(volume, bytes.NewReader(make([]byte, size)), size, fvetest.Options{
		Description: "FRONTDESK-7 C: 7/19/2024", RecoveryPasswords: []string{"", ""},
	})
	if err != nil {
		t.Fatal(err)
	}
	m, err := bitlocker.ReadMetadata(bytes.NewReader(volume), size)
	if err != nil {
		t.Fatal(err)
	}
	const other = "110011-220022-330033-440044-550055-660066-111111-222222"
	second := made.Recovery[1]
	for name, tc := range map[string]struct {
		csv  string
		want error
	}{
		"by key ID":              {"KeyID,RecoveryKey\n" + second.ID.String() + "," + second.Password + "\n", nil},
		"by computer name":       {"ComputerName,RecoveryKey\nfrontdesk-7," + second.Password + "\n", nil},
		"after a wrong one":      {"KeyID,RecoveryKey,ComputerName\n" + second.ID.String() + "," + other + ",x\n,\n" + second.ID.String() + "," + second.Password + ",x\n", nil},
		"bare key":               {other + "\n" + second.Password + "\n", nil},
		"only bare wrong ones":   {other + "\n", bitlocker.ErrNoProtector},
		"only a wrong one":       {"KeyID,RecoveryKey\n" + second.ID.String() + "," + other + "\n", bitlocker.ErrWrongKey},
		"of somebody else":       {"KeyID,RecoveryKey,ComputerName\n11111111-2222-3333-4444-555555555555," + other + ",BACKOFFICE-1\n", bitlocker.ErrNoProtector},
		"right key, other names": {"KeyID,RecoveryKey,ComputerName\n11111111-2222-3333-4444-555555555555," + second.Password + ",BACKOFFICE-1\n", bitlocker.ErrNoProtector},
	} {
		t.Run(name, func(t *testing.T) {
			list, err := ReadCSV(strings.NewReader(tc.csv), "keys.csv")
			if err != nil {
				t.Fatal(err)
			}
			key, protector, err := list.Unlock(context.Background(), m)
			if !errors.Is(err, tc.want) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
			if err != nil {
				if strings.Contains(err.Error(), "110011") {
					t.Fatalf("the error shows the key: %v", err)
				}
				return
			}
			if key == nil || protector.ID != second.ID {
				t.Fatalf("opened by %v", protector)
			}
		})
	}
}

// TestMatchAll has lists that say the wrong thing of the right key, or nothing.
func TestMatchAll(t *testing.T) {
	const size = fvetest.MinSize
	volume := make(disk, size)
	made, err := fvetest.Format(volume, bytes.NewReader(make([]byte, size)), size, fvetest.Options{
		Description: "FRONTDESK-7 C: 7/19/2024", RecoveryPasswords: []string{"", ""},
	})
	if err != nil {
		t.Fatal(err)
	}
	m, err := bitlocker.ReadMetadata(bytes.NewReader(volume), size)
	if err != nil {
		t.Fatal(err)
	}
	const other = "110011-220022-330033-440044-550055-660066-111111-222222"
	second := made.Recovery[1]
	for name, tc := range map[string]struct {
		csv  string
		line int // 0: nothing fits
	}{
		"another's ID and name": {"KeyID,RecoveryKey,ComputerName\n11111111-2222-3333-4444-555555555555," + second.Password + ",BACKOFFICE-1\n", 2},
		"no ID, behind others": {"RecoveryKey,ComputerName\n" + other + ",BACKOFFICE-1\n" + key1 + ",BACKOFFICE-2\n" +
			second.Password + ",BACKOFFICE-3\n", 4},
		"by key ID": {"KeyID,RecoveryKey\n" + second.ID.String() + "," + second.Password + "\n", 2},
		"not there": {"RecoveryKey,ComputerName\n" + other + ",BACKOFFICE-1\n" + key1 + ",BACKOFFICE-2\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			list, err := ReadCSV(strings.NewReader(tc.csv), "keys.csv")
			if err != nil {
				t.Fatal(err)
			}
			var done, total int64
			ctx := bitlocker.WithProgress(context.Background(), func(d, of int64) { done, total = d, of })
			key, match, err := list.MatchAll(ctx, m)
			if tc.line == 0 {
				if !errors.Is(err, bitlocker.ErrWrongKey) || done != total || total == 0 {
					t.Errorf("got %v after %d of %d rounds", err, done, total)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if key == nil || match.Protector.ID != second.ID || match.Line != tc.line {
				t.Errorf("opened by %+v", match)
			}
		})
	}
	list, err := ReadCSV(strings.NewReader("RecoveryKey,ComputerName\n"+strings.Repeat(other+",X\n", 1)+key1+",Y\n"+key2+",Z\n"), "keys.csv")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ctx = bitlocker.WithProgress(ctx, func(int64, int64) { cancel() })
	if _, _, err := list.MatchAll(ctx, m); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestStartupKeys(t *testing.T) {
	const size = fvetest.MinSize
	volume := make(disk, size)
	made, err := fvetest.Format(volume, bytes.NewReader(make([]byte, size)), size, fvetest.Options{StartupKey: true, RecoveryPasswords: []string{""}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := bitlocker.ReadMetadata(bytes.NewReader(volume), size)
	if err != nil {
		t.Fatal(err)
	}
	list, err := Read(bytes.NewReader(made.BEK), "usb/KEY.BEK")
	if err != nil || len(list.StartupKeys) != 1 || list.StartupKeys[0].ID != made.StartupKey {
		t.Fatalf("%+v, %v", list, err)
	}
	// In the canonical table it is the same key.
	var table bytes.Buffer
	if err := list.WriteCSV(&table); err != nil {
		t.Fatal(err)
	}
	again, err := Read(&table, "keys.csv")
	if err != nil || len(again.Problems) != 0 {
		t.Fatal(err, again.Problems)
	}
	if merged := Merge(list, again); merged.Len() != 1 || merged.Duplicates != 1 {
		t.Errorf("%d keys, %d duplicates", merged.Len(), merged.Duplicates)
	}
	for name, l := range map[string]*List{"file": list, "table": again} {
		key, match, err := l.Match(context.Background(), m)
		if err != nil || key == nil || match.Protector.ID != made.StartupKey {
			t.Errorf("%s: opened by %+v, %v", name, match, err)
		}
	}
	found, err := list.Lookup(context.Background(), Query{Protectors: []bitlocker.GUID{made.StartupKey}})
	if err != nil || len(found.StartupKeys) != 1 {
		t.Errorf("looked up %d, %v", found.Len(), err)
	}
	// Its bytes show nowhere.
	secret := made.BEK[len(made.BEK)-32:]
	asJSON, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	hidden := struct{ k StartupKey }{list.StartupKeys[0]}
	for _, s := range []string{string(asJSON), fmt.Sprintf("%v %+v %#v %x %v %+v", list, list.StartupKeys, list.StartupKeys[0], list.StartupKeys[0].Data, hidden, hidden)} {
		for _, form := range []string{string(secret), hex.EncodeToString(secret[:8]), strings.Trim(fmt.Sprintf("%d", secret[:8]), "[]"), base64.StdEncoding.EncodeToString(secret)[:16]} {
			if strings.Contains(s, form) {
				t.Errorf("the startup key shows in %s", s)
			}
		}
	}
	list.StartupKeys[0].Data.Wipe()
	if bytes.Contains(list.StartupKeys[0].Data.Reveal(), secret) {
		t.Error("not wiped")
	}
}
