package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// Address says where a PostgreSQL database is, "postgres://USER@HOST/NAME", and may hold a password. It does not print.
type Address string

// Format keeps the address out of logs, whatever the verb.
func (Address) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("database (address withheld)")) }

// connections is how many a server holds at most. PostgreSQL takes 100 by itself, from all servers.
const connections = 8

// A server whose site loses its network in the middle of a transaction must not keep all others waiting until the system
// finds that its connection is dead. What the address sets itself holds.
var timeouts = map[string]string{"idle_in_transaction_session_timeout": "15s", "lock_timeout": "8s", "statement_timeout": "10s"}

// OpenURL opens a database that other servers may share. What the address leaves out is taken from the variables and files
// that PostgreSQL's own programs read: PGPASSWORD, PGPASSFILE, PGSSLROOTCERT and so on.
func OpenURL(ctx context.Context, address Address) (*DB, error) {
	if !strings.HasPrefix(string(address), "postgres://") && !strings.HasPrefix(string(address), "postgresql://") {
		return nil, errors.New("the database's address does not begin with postgres://")
	}
	config, err := pgx.ParseConfig(string(address))
	if err != nil {
		return nil, errors.New("the database's address cannot be read: write it as postgres://USER@HOST:PORT/NAME, with % and two hexadecimal digits for each special character") // the error may show the password
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 5 * time.Second
	}
	db := &DB{Shared: true, scrub: strings.NewReplacer(), dialect: dialect{
		mark: "$", lock: forUpdate,
		schema: strings.NewReplacer("{id}", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "{bytes}", "BYTEA"),
		begin:  "SELECT pg_advisory_xact_lock(291)",
	}}
	if config.Password != "" {
		db.scrub = strings.NewReplacer(config.Password, "(withheld)")
	}
	db.write = stdlib.OpenDB(*config, stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		for name, value := range timeouts {
			if _, set := config.RuntimeParams[name]; set {
				continue
			}
			if err := conn.PgConn().Exec(ctx, "SET "+name+" = '"+value+"'").Close(); err != nil {
				return err
			}
		}
		return nil
	}))
	db.read = db.write
	db.write.SetMaxOpenConns(connections)
	db.write.SetMaxIdleConns(connections)
	db.write.SetConnMaxIdleTime(5 * time.Minute)
	if err := db.durable(ctx); err != nil {
		_ = db.Close()
		return nil, err
	}
	if err := db.migrate(ctx); err != nil {
		_ = db.Close()
		return nil, err
	}
	return db, nil
}

// durable makes sure that a commit is on the disk when it returns.
func (db *DB) durable(ctx context.Context) error {
	return db.View(ctx, func(t *Tx) error {
		var value string
		if _, err := t.one([]any{&value}, "SELECT current_setting('synchronous_commit')"); err != nil {
			return err
		}
		if value == "off" {
			return errors.New("the database says that it has kept something before it is on its disk (synchronous_commit is off): have it wait, for example with ?synchronous_commit=on behind its address")
		}
		return nil
	})
}

// maxTries is how often a transaction is run that was in the way of another server's.
const maxTries = 6

func (db *DB) doShared(ctx context.Context, fn func(*Tx) error) error {
	for try := 1; ; try++ {
		err := db.once(ctx, fn)
		if err == nil || try == maxTries || !inTheWay(err) {
			return err
		}
		select { // not both again at the same time
		case <-time.After(time.Duration(rand.Int64N(int64(try) * int64(20*time.Millisecond)))):
		case <-ctx.Done():
			return err
		}
	}
}

func (db *DB) once(ctx context.Context, fn func(*Tx) error) error {
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return db.failed(err)
	}
	if err := fn(&Tx{ctx: ctx, on: tx, db: db}); err != nil {
		_ = tx.Rollback() // it was not to be kept
		return err
	}
	if err := tx.Commit(); err != nil {
		return db.failed(err)
	}
	return nil
}

// inTheWay reports whether another transaction won, so that the same may go well now (PostgreSQL, appendix A).
func inTheWay(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case "40001", // serialization_failure
		"40P01", // deadlock_detected
		"23505": // unique_violation: both have made the same row
		return true
	}
	return false
}
