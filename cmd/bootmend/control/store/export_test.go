package store

import (
	"context"
	"testing"
)

// Contract is for the tests with PostgreSQL, which are outside of the package since what starts it imports it.
var Contract = contract

// Setting is a setting of PostgreSQL, as it holds for a connection.
func Setting(t *testing.T, db *DB, name string) (value string) {
	t.Helper()
	if err := db.View(context.Background(), func(tx *Tx) error {
		_, err := tx.one([]any{&value}, "SELECT current_setting(?1)", name)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return value
}
