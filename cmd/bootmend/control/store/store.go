// Package store is the database of control servers: machines, keys' audit, logs, and how far the rollout is. It holds no
// key.
//
// [OpenFile] is a database of one server, in a file (SQLite); [OpenURL] is one that several servers share (PostgreSQL).
// Both speak the same SQL, so all that is done in [DB.Do] and [DB.View] is written once. What was done is on the disk
// when Do returns without an error, and not at all otherwise; only where the connection broke at the very end nobody
// knows, so a caller must be able to do it again.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// ErrDatabase is any error of the database itself: it may be gone for a while. Ask again later.
var ErrDatabase = errors.New("database")

// DB is an open database. Its methods may be called by several goroutines.
type DB struct {
	// Shared reports whether other servers may change what is in it, too.
	Shared bool

	dialect dialect
	write   *sql.DB
	read    *sql.DB // the same for PostgreSQL
	writer  *writer // SQLite takes one at a time; nil for PostgreSQL
	scrub   *strings.Replacer
	queries sync.Map // as they are written here, to those of the dialect
}

// dialect is what SQLite and PostgreSQL do not write alike.
type dialect struct {
	mark   string // before the number of a parameter
	lock   string // behind a SELECT, to keep others from changing its rows
	schema *strings.Replacer
	begin  string // before the schema is looked at
}

// session is a transaction.
type session interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Tx is a transaction. It is of one goroutine.
type Tx struct {
	ctx   context.Context
	on    session
	db    *DB
	reads bool // and locks nothing, which PostgreSQL would refuse
}

// Do runs fn in a transaction that may write. fn may be run again, where servers were in each other's way, and on another
// goroutine. An error of fn's own takes everything back and is returned as it is.
func (db *DB) Do(ctx context.Context, fn func(*Tx) error) error {
	if db.writer != nil {
		return db.writer.do(ctx, fn)
	}
	return db.doShared(ctx, fn)
}

// View runs fn in a transaction that only reads.
func (db *DB) View(ctx context.Context, fn func(*Tx) error) error {
	tx, err := db.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: db.Shared}) // the pool of SQLite can't write anyway
	if err != nil {
		return db.failed(err)
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	return fn(&Tx{ctx: ctx, on: tx, db: db, reads: true})
}

// Close ends it. What is being done is finished first.
func (db *DB) Close() error {
	if db.writer != nil {
		db.writer.close()
	}
	if db.read == db.write {
		return db.write.Close()
	}
	return errors.Join(db.read.Close(), db.write.Close()) // who closes last tidies up
}

// failed marks an error as the database's own, and takes a password out of it.
func (db *DB) failed(err error) error {
	text := err.Error()
	if clean := db.scrub.Replace(text); clean != text {
		return fmt.Errorf("%w: %s", ErrDatabase, clean)
	}
	return fmt.Errorf("%w: %w", ErrDatabase, err)
}

// forUpdate is behind a query whose rows nobody else is to change until the end of the transaction.
const forUpdate = " FOR UPDATE"

// query is the text of a query in the dialect. Parameters are written ?1, ?2.
func (db *DB) query(text string) string {
	if known, ok := db.queries.Load(text); ok {
		return known.(string)
	}
	translated := strings.ReplaceAll(strings.ReplaceAll(text, "?", db.dialect.mark), forUpdate, db.dialect.lock)
	db.queries.Store(text, translated)
	return translated
}

// exec changes rows, and returns how many.
func (t *Tx) exec(text string, args ...any) (int64, error) {
	result, err := t.on.ExecContext(t.ctx, t.db.query(text), args...)
	if err != nil {
		return 0, t.db.failed(err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return 0, t.db.failed(err)
	}
	return n, nil
}

// each calls fn for each row.
func (t *Tx) each(fn func(scan func(dest ...any) error) error, text string, args ...any) error {
	if t.reads {
		text = strings.TrimSuffix(text, forUpdate)
	}
	rows, err := t.on.QueryContext(t.ctx, t.db.query(text), args...)
	if err != nil {
		return t.db.failed(err)
	}
	defer func() { _ = rows.Close() }() // rows.Err says it
	for rows.Next() {
		if err := fn(rows.Scan); err != nil {
			return t.db.failed(err)
		}
	}
	if err := rows.Err(); err != nil {
		return t.db.failed(err)
	}
	return nil
}

// one reads the only row, if there is one.
func (t *Tx) one(dest []any, text string, args ...any) (found bool, err error) {
	err = t.each(func(scan func(...any) error) error {
		found = true
		return scan(dest...)
	}, text, args...)
	return found, err
}

// Times are kept as microseconds since 1970, which both databases store and compare alike. The zero time is 0.
func toMicro(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicro(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}
