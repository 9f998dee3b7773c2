package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// OpenFile opens the database in a file, and makes it where it is missing. The folder must not be on a network share: the
// servers of several computers share PostgreSQL.
func OpenFile(ctx context.Context, path string) (*DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	// Made here, so that nobody else may read it; SQLite gives the files beside it the same rights.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	db := &DB{scrub: strings.NewReplacer(), dialect: dialect{
		mark:   "?",
		schema: strings.NewReplacer("{id}", "INTEGER PRIMARY KEY AUTOINCREMENT", "{bytes}", "BLOB"),
	}}
	// Each commit waits for the disk: FULL syncs the log of a WAL database, fullfsync does what macOS calls that.
	if db.write, err = openSQLite(path, 1, "busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "fullfsync(1)"); err != nil {
		return nil, err
	}
	conn, err := db.write.Conn(ctx)
	if err != nil {
		_ = db.write.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	db.writer = newWriter(db, conn)
	if db.read, err = openSQLite(path, 4, "busy_timeout(10000)", "query_only(1)"); err != nil {
		db.read = db.write
		_ = db.Close()
		return nil, err
	}
	if err := db.migrate(ctx); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return db, nil
}

func openSQLite(path string, connections int, pragmas ...string) (*sql.DB, error) {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") { // a drive
		path = "/" + path
	}
	name := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: url.Values{"_pragma": pragmas}.Encode()}
	db, err := sql.Open("sqlite", name.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

// writer is the only one who writes to an SQLite database. What is asked of it while it waits for the disk goes there
// together, so that many machines cost as few waits as one.
type writer struct {
	db         *DB
	conn       *sql.Conn
	statements map[string]*sql.Stmt
	jobs       chan *job
	stop       chan struct{}
	stopOnce   sync.Once
	ended      chan struct{}
}

type job struct {
	fn   func(*Tx) error
	err  error
	done chan struct{}
}

// maxBatch bounds how long the first of a batch waits for the others.
const maxBatch = 256

var errClosed = errors.New("it is closed")

func newWriter(db *DB, conn *sql.Conn) *writer {
	w := &writer{db: db, conn: conn, statements: map[string]*sql.Stmt{}, jobs: make(chan *job), stop: make(chan struct{}), ended: make(chan struct{})}
	go w.run()
	return w
}

// do waits until fn was run and is on the disk. ctx ends only the wait for its turn: a statement that is broken off would
// take the whole batch with it.
func (w *writer) do(ctx context.Context, fn func(*Tx) error) error {
	j := &job{fn: fn, done: make(chan struct{})}
	select {
	case w.jobs <- j:
	case <-w.stop:
		return w.db.failed(errClosed)
	case <-ctx.Done():
		return w.db.failed(ctx.Err())
	}
	<-j.done
	return j.err
}

func (w *writer) close() {
	w.stopOnce.Do(func() { close(w.stop) })
	<-w.ended
}

func (w *writer) run() {
	defer close(w.ended)
	defer func() { // each commit was checked
		for _, statement := range w.statements {
			_ = statement.Close() // otherwise the database stays open
		}
		_ = w.conn.Close()
	}()
	for {
		var batch []*job
		select {
		case j := <-w.jobs:
			batch = append(batch, j)
		case <-w.stop:
			return
		}
		for more := true; more && len(batch) < maxBatch; {
			select {
			case j := <-w.jobs:
				batch = append(batch, j)
			default:
				more = false
			}
		}
		if err := w.commit(batch); err != nil {
			_, _ = w.ExecContext(context.Background(), "ROLLBACK") // a full disk has done so by itself
			err = w.db.failed(err)
			for _, j := range batch {
				j.err = err
			}
		}
		for _, j := range batch {
			close(j.done)
		}
	}
}

// commit runs a batch in one transaction. A job that fails takes back its own part only.
func (w *writer) commit(batch []*job) error {
	ctx := context.Background()
	if _, err := w.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	for _, j := range batch {
		if _, err := w.ExecContext(ctx, "SAVEPOINT job"); err != nil {
			return err
		}
		if j.err = j.fn(&Tx{ctx: ctx, on: w, db: w.db}); j.err != nil {
			if _, err := w.ExecContext(ctx, "ROLLBACK TO job"); err != nil {
				return errors.Join(j.err, err)
			}
		}
		if _, err := w.ExecContext(ctx, "RELEASE job"); err != nil {
			return err
		}
	}
	_, err := w.ExecContext(ctx, "COMMIT")
	return err
}

// prepared keeps each statement: reading its text takes longer than running it.
func (w *writer) prepared(ctx context.Context, query string) (*sql.Stmt, error) {
	if known := w.statements[query]; known != nil {
		return known, nil
	}
	statement, err := w.conn.PrepareContext(ctx, query)
	if err == nil {
		w.statements[query] = statement
	}
	return statement, err
}

// ExecContext implements session.
func (w *writer) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	statement, err := w.prepared(ctx, query)
	if err != nil {
		return nil, err
	}
	return statement.ExecContext(ctx, args...)
}

// QueryContext implements session.
func (w *writer) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	statement, err := w.prepared(ctx, query)
	if err != nil {
		return nil, err
	}
	return statement.QueryContext(ctx, args...)
}
