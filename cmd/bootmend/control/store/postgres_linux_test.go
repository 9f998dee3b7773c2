package store_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/bootmend/bootmend/cmd/bootmend/control/store"
	"github.com/bootmend/bootmend/cmd/bootmend/control/store/storetest"
)

// TestPostgres is what both databases do, with PostgreSQL.
func TestPostgres(t *testing.T) {
	p := storetest.Start(t)
	store.Contract(t, func(*testing.T) *store.DB { return p.Open() })
}

// TestStuck has a server hold what all need, and say no more, as if its network had gone.
func TestStuck(t *testing.T) {
	p := storetest.Start(t)
	db := p.Open()
	stuck, err := store.OpenURL(context.Background(), p.Address()+"&idle_in_transaction_session_timeout=500")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stuck.Close() })
	locked, freed, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		ended <- stuck.Do(context.Background(), func(tx *store.Tx) error {
			f, err := tx.LockFleet()
			close(locked)
			<-freed
			return errors.Join(err, tx.SetFleet(f))
		})
	}()
	<-locked
	start := time.Now()
	if err := db.Do(context.Background(), func(tx *store.Tx) error { _, err := tx.LockFleet(); return err }); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the other waited for %s", took)
	}
	close(freed)
	if err := <-ended; !errors.Is(err, store.ErrDatabase) {
		t.Errorf("the one that was stuck: %v", err)
	}
	for _, name := range []string{"idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout"} {
		if value := store.Setting(t, db, name); value == "0" || value == "" {
			t.Errorf("%s is %s", name, value)
		}
	}
}

// TestAddress: a password must not show, whatever is wrong.
func TestAddress(t *testing.T) {
	p := storetest.Start(t)
	right := string(p.Address())
	wrong := strings.Replace(right, url.UserPassword("", storetest.Password).String(), ":wrong-secret", 1)
	if wrong == right {
		t.Fatal(right)
	}
	for name, test := range map[string]struct{ address, want string }{
		"another kind":    {"mysql://u:" + "wrong-secret@h/n", "does not begin with postgres://"},
		"not an address":  {"postgres://u:wrong-secret@h:port%%/n", "cannot be read"},
		"wrong password":  {wrong, "password authentication failed"},
		"no such server":  {"postgres://u:wrong-secret@127.0.0.1:1/n", "refused"},
		"no such name":    {strings.Replace(right, "/postgres?", "/nothing?", 1), "does not exist"},
		"does not wait":   {right + "&synchronous_commit=off", "synchronous_commit is off"},
		"unknown setting": {right + "&nonsense=wrong-secret", "nonsense"},
	} {
		db, err := store.OpenURL(context.Background(), store.Address(test.address))
		if err == nil {
			_ = db.Close()
			t.Errorf("%s: it is opened", name)
			continue
		}
		if !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
		if text := fmt.Sprintf("%v %+v %#v", err, err, err); name != "unknown setting" && (strings.Contains(text, "wrong-secret") || strings.Contains(text, storetest.Password)) {
			t.Errorf("%s shows the password: %s", name, text)
		}
	}
	without := strings.Replace(right, url.UserPassword("", storetest.Password).String(), "", 1)
	if db, err := store.OpenURL(context.Background(), store.Address(without)); err == nil {
		_ = db.Close()
		t.Error("it is opened without a password")
	}
	t.Setenv("PGPASSWORD", storetest.Password)
	if db, err := store.OpenURL(context.Background(), store.Address(without)); err != nil {
		t.Errorf("with the password in the environment: %v", err)
	} else {
		_ = db.Close()
	}
	if text := fmt.Sprintf("%v %+v %#v %s %q", p.Address(), p.Address(), p.Address(), p.Address(), p.Address()); strings.Contains(text, "fleet") {
		t.Errorf("an address prints: %s", text)
	}
}
