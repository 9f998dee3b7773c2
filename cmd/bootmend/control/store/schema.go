package store

import (
	"context"
	"fmt"
	"time"
)

// migrations are what made the schema, in order. One that was released never changes; a change is a further one.
var migrations = [][]string{{
	// What all machines have in common, in one row.
	`CREATE TABLE fleet (
		one        INTEGER PRIMARY KEY CHECK (one = 1),
		halted     TEXT    NOT NULL, -- why no machine is healed; empty: they are
		open_ring  TEXT    NOT NULL, -- the last open ring; empty: the first one
		rings      TEXT    NOT NULL, -- the file of --rings
		halt_after BIGINT  NOT NULL,
		epoch      BIGINT  NOT NULL  -- how often somebody has resumed, and so begun to count anew
	)`,
	`INSERT INTO fleet (one, halted, open_ring, rings, halt_after, epoch) VALUES (1, '', '', '', 0, 1)`,
	`CREATE TABLE machines (
		id            TEXT    PRIMARY KEY,
		run           TEXT    NOT NULL UNIQUE, -- the last one
		serial        TEXT    NOT NULL,
		uuid          TEXT    NOT NULL,
		model         TEXT    NOT NULL,
		computer_name TEXT    NOT NULL,
		address       TEXT    NOT NULL,
		server        TEXT    NOT NULL, -- which it asks
		version       TEXT    NOT NULL,
		decision      TEXT    NOT NULL,
		ring          TEXT    NOT NULL,
		step          TEXT    NOT NULL,
		outcome       TEXT    NOT NULL,
		message       TEXT    NOT NULL,
		seen          BIGINT  NOT NULL, -- microseconds since 1970, as all times here
		failed_in     BIGINT  NOT NULL, -- the epoch in which it failed
		waiting       BOOLEAN NOT NULL,
		space         BIGINT  NOT NULL  -- bytes of its logs and records
	)`,
	`CREATE INDEX machines_shown ON machines (waiting, seen)`,
	`CREATE INDEX machines_ring ON machines (ring, outcome)`,
	`CREATE INDEX machines_failed ON machines (failed_in)`,
	`CREATE TABLE wants (
		run       TEXT    NOT NULL,
		protector TEXT    NOT NULL,
		volume    TEXT    NOT NULL,
		given     BOOLEAN NOT NULL,
		approved  BOOLEAN NOT NULL,
		limited   BOOLEAN NOT NULL,
		PRIMARY KEY (run, protector)
	)`,
	// Only ever appended to.
	`CREATE TABLE audit (
		id            {id},
		time          BIGINT NOT NULL,
		event         TEXT   NOT NULL,
		server        TEXT   NOT NULL,
		run           TEXT   NOT NULL,
		serial        TEXT   NOT NULL,
		uuid          TEXT   NOT NULL,
		model         TEXT   NOT NULL,
		computer_name TEXT   NOT NULL,
		key_id        TEXT   NOT NULL,
		volume        TEXT   NOT NULL,
		address       TEXT   NOT NULL
	)`,
	`CREATE TABLE reports (
		run      TEXT   PRIMARY KEY,
		received BIGINT NOT NULL,
		size     BIGINT NOT NULL,
		log      {bytes} NOT NULL
	)`,
	`CREATE TABLE limits (
		kind    TEXT   NOT NULL,
		who     TEXT   NOT NULL,
		counts  TEXT   NOT NULL,
		changed BIGINT NOT NULL,
		PRIMARY KEY (kind, who)
	)`,
}, {
	// Machines are shown by what they do, not by when they asked last: those that wait ask all the time.
	`ALTER TABLE machines ADD COLUMN since BIGINT NOT NULL DEFAULT 0`, // of the step
	`UPDATE machines SET since = seen`,
	`DROP INDEX machines_shown`,
	`CREATE INDEX machines_shown ON machines (waiting, since)`,
}}

// migrate brings the schema up to date. Servers that start together do so one after the other.
func (db *DB) migrate(ctx context.Context) error {
	return db.Do(ctx, func(t *Tx) error {
		if db.dialect.begin != "" {
			if _, err := t.exec(db.dialect.begin); err != nil {
				return err
			}
		}
		if _, err := t.exec("CREATE TABLE IF NOT EXISTS schema_versions (version INTEGER PRIMARY KEY, made BIGINT NOT NULL)"); err != nil {
			return err
		}
		var version int
		if _, err := t.one([]any{&version}, "SELECT COALESCE(MAX(version), 0) FROM schema_versions"); err != nil {
			return err
		}
		if version > len(migrations) {
			return fmt.Errorf("the database is of a newer bootmend (version %d of its tables, %d is known here): use that one", version, len(migrations))
		}
		for i := version; i < len(migrations); i++ {
			for _, statement := range migrations[i] {
				if _, err := t.exec(db.dialect.schema.Replace(statement)); err != nil {
					return fmt.Errorf("making version %d of the tables: %w", i+1, err)
				}
			}
			if _, err := t.exec("INSERT INTO schema_versions (version, made) VALUES (?1, ?2)", i+1, time.Now().UnixMicro()); err != nil {
				return err
			}
		}
		return nil
	})
}
