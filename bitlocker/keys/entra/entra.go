package entra

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/keys"
)

// Cloud is where a tenant lives.
type Cloud struct {
	Login string // such as https://login.microsoftonline.com
	Graph string // such as https://graph.microsoft.com
}

// Clouds are those of Microsoft, by name (Graph, "National cloud deployments"; for the login in China, "Microsoft Entra
// authentication & national clouds").
var Clouds = map[string]Cloud{
	"global": {"https://login.microsoftonline.com", "https://graph.microsoft.com"},
	"usgov":  {"https://login.microsoftonline.us", "https://graph.microsoft.us"},
	"dod":    {"https://login.microsoftonline.us", "https://dod-graph.microsoft.us"},
	"china":  {"https://login.partner.microsoftonline.cn", "https://microsoftgraph.chinacloudapi.cn"},
}

// DefaultClient is the application "Microsoft Graph Command Line Tools", which
// tenants know already. An own registration as a public client does as well.
const DefaultClient = "14d82eec-204b-4c2f-b7e8-296a70dab67e"

// Source is a tenant to read keys from.
type Source struct {
	Cloud  Cloud
	Tenant string // a domain, an ID, or empty for the one of who logs in
	Client string // application ID; empty means [DefaultClient]
	// Prompt shows a person where to log in, and with which code.
	Prompt func(address, code string)
	// Known keys are not asked for again. They are part of the result, unless the
	// tenant has them no longer.
	Known *keys.List
	// Filter chooses by computer and ID, before keys are asked for.
	Filter keys.Filter
	// Progress, if not nil, is told how many keys of how many are there.
	Progress func(done, total int)
	// Checkpoint, if not nil, gets what there is now and then, so that little is
	// lost if the power is.
	Checkpoint func(*keys.List) error
	// HTTP is what requests go through; nil means the default.
	HTTP *http.Client
	// Version is told to Graph.
	Version string
}

// Errors that callers tell a person more about.
var (
	ErrLogin   = errors.New("the login failed")
	ErrNoRight = errors.New("the login may not read recovery keys")
)

const (
	workers         = 4
	checkpointEvery = 30 * time.Second
	maxKeys         = 2_000_000
	maxPages        = 100_000
)

// String names the source.
func (s *Source) String() string { return s.Cloud.Graph }

// listed is a key as the list has it (Graph, "bitlockerRecoveryKey resource type").
type listed struct {
	ID       string `json:"id"`
	DeviceID string `json:"deviceId"`
}

// Keys implements [keys.Source]. Where it fails half-way, the list holds what was
// read until then, beside the error: given as Known, it is not read again.
func (s *Source) Keys(ctx context.Context) (*keys.List, error) {
	list, err := s.read(ctx)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", s.Cloud.Graph, err)
	}
	return list, err
}

func (s *Source) read(ctx context.Context) (*keys.List, error) {
	none := s.Known
	if none == nil {
		none = &keys.List{}
	}
	c, err := s.connect(ctx)
	if err != nil {
		return none, err
	}
	var all []listed
	err = pages(ctx, c, "/v1.0/informationProtection/bitlocker/recoveryKeys", func(k listed) error {
		if all = append(all, k); len(all) > maxKeys {
			return fmt.Errorf("more than %d keys", maxKeys)
		}
		return nil
	})
	if err != nil {
		return none, fmt.Errorf("list the keys: %w", err)
	}
	names, nameProblem := deviceNames(ctx, c)
	if ctx.Err() != nil {
		return none, ctx.Err()
	}
	if nameProblem != nil && len(s.Filter.Computers) > 0 {
		return none, fmt.Errorf("read the names of the computers: %w", nameProblem)
	}
	f := &fetch{source: s, client: c, known: map[bitlocker.GUID]keys.Entry{}}
	for _, e := range none.Entries {
		if e.HasID {
			f.known[e.ID] = e
		}
	}
	if err := f.choose(all, names); err != nil {
		return none, err
	}
	err = f.run(ctx)
	list := f.list()
	if nameProblem != nil {
		list.Problems = append(list.Problems, keys.RowError{File: s.String(), Line: 1, Kind: keys.Unreadable,
			Reason: fmt.Sprintf("the names of the computers are missing: %v", nameProblem)})
	}
	return list, err
}

// deviceNames reads what the computers are called, which takes the permission
// Device.Read.All.
func deviceNames(ctx context.Context, c *client) (map[string]string, error) {
	type device struct {
		DeviceID    string `json:"deviceId"`
		DisplayName string `json:"displayName"`
	}
	names := map[string]string{}
	err := pages(ctx, c, "/v1.0/devices?$select=deviceId,displayName&$top=999", func(d device) error {
		if len(names) > maxKeys {
			return fmt.Errorf("more than %d devices", maxKeys)
		}
		names[strings.ToLower(d.DeviceID)] = d.DisplayName
		return nil
	})
	return names, err
}

// fetch asks for keys one by one.
type fetch struct {
	source *Source
	client *client
	known  map[bitlocker.GUID]keys.Entry
	wanted []wanted

	mu   sync.Mutex
	done int
	rows []row // as wanted has them
	last time.Time
}

type wanted struct {
	id       bitlocker.GUID
	computer string
}

// row is what came of a wanted key.
type row struct {
	known   bool
	asked   bool
	key     string
	problem string
}

// choose makes the list of what is wanted.
func (f *fetch) choose(all []listed, names map[string]string) error {
	pseudo := &keys.List{}
	for _, k := range all {
		id, err := bitlocker.ParseGUID(k.ID)
		if err != nil {
			return errors.New("the list of keys has an ID that is none")
		}
		computer := names[strings.ToLower(k.DeviceID)]
		pseudo.Entries = append(pseudo.Entries, keys.Entry{ID: id, HasID: true, Computer: computer})
	}
	chosen, _, err := f.source.Filter.Apply(pseudo)
	if err != nil {
		return err
	}
	if len(all) > 0 && len(chosen.Entries) == 0 {
		return fmt.Errorf("none of %d keys fits what was asked for", len(all))
	}
	seen := map[bitlocker.GUID]bool{}
	for _, e := range chosen.Entries {
		if !seen[e.ID] {
			seen[e.ID] = true
			f.wanted = append(f.wanted, wanted{e.ID, e.Computer})
		}
	}
	f.rows = make([]row, len(f.wanted))
	for i, w := range f.wanted {
		if e, ok := f.known[w.id]; ok {
			if w.computer == "" {
				f.wanted[i].computer = e.Computer
			}
			f.rows[i] = row{known: true, key: e.Password.Reveal()}
			f.done++
		}
	}
	return nil
}

func (f *fetch) run(ctx context.Context) error {
	f.last = time.Now()
	f.progress()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	for i := range f.wanted {
		if f.rows[i].known {
			continue
		}
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error { return f.one(ctx, i) })
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("%d of %d keys: %w", f.done, len(f.wanted), err)
	}
	return nil
}

// one asks for a key. That one is missing does not stop the others.
func (f *fetch) one(ctx context.Context, i int) error {
	var answer struct {
		Key string `json:"key"`
	}
	path := "/v1.0/informationProtection/bitlocker/recoveryKeys/" + strings.ToLower(f.wanted[i].id.String()) + "?$select=key"
	err := f.client.get(ctx, path, &answer)
	r := row{asked: true, key: answer.Key}
	var status *statusError
	switch {
	case err == nil:
	case errors.As(err, &status) && status.code == http.StatusNotFound:
		r.problem = "the tenant has this key no longer"
	default:
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rows[i] = r
	f.done++
	f.progress()
	if f.source.Checkpoint != nil && time.Since(f.last) > checkpointEvery {
		f.last = time.Now()
		return f.source.Checkpoint(f.list())
	}
	return nil
}

func (f *fetch) progress() {
	if f.source.Progress != nil {
		f.source.Progress(f.done, len(f.wanted))
	}
}

// list is what there is so far.
func (f *fetch) list() *keys.List {
	b := keys.NewBuilder(f.source.String())
	for i, r := range f.rows {
		w := f.wanted[i]
		switch {
		case r.problem != "":
			b.AddProblem(keys.RowError{Kind: keys.NoKey, ID: w.id, Reason: r.problem})
		case r.known || r.asked:
			b.AddRow(keys.Row{ID: w.id.String(), Key: r.key, Computer: w.computer})
		}
	}
	return b.List()
}

// page is an answer in parts (Graph, "Paging").
type page[T any] struct {
	Value []T    `json:"value"`
	Next  string `json:"@odata.nextLink"`
}

// pages reads a collection.
func pages[T any](ctx context.Context, c *client, path string, add func(T) error) error {
	seen := map[string]bool{}
	for range maxPages {
		var p page[T]
		if err := c.get(ctx, path, &p); err != nil {
			return err
		}
		for _, v := range p.Value {
			if err := add(v); err != nil {
				return err
			}
		}
		if p.Next == "" {
			return nil
		}
		// The token goes to Graph and nowhere else.
		next, err := url.Parse(p.Next)
		if err != nil || next.Scheme+"://"+next.Host != c.graph {
			return errors.New("the list goes on at another server")
		}
		if path = next.RequestURI(); seen[path] {
			return errors.New("the list repeats a page")
		}
		seen[path] = true
	}
	return fmt.Errorf("more than %d pages", maxPages)
}
