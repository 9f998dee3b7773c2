package entra

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/keys"
	"github.com/bootmend/bootmend/bitlocker/keys/entra/entratest"
)

func tenant(t *testing.T, n int) (*entratest.Server, *Source) {
	t.Helper()
	var all []entratest.Key
	for i := range n {
		all = append(all, entratest.Key{
			ID:     fmt.Sprintf("11111111-2222-3333-4444-%012X", i),
			Key:    fmt.Sprintf("%06d-220022-330033-440044-550055-660066-111111-222222", 110011+11*i),
			Device: fmt.Sprintf("99999999-2222-3333-4444-%012x", i/2), // two keys a computer
			Name:   fmt.Sprintf("PC-%d", i/2),
		})
	}
	server := entratest.Start(t, all)
	s := &Source{Cloud: Cloud{server.URL, server.URL}, Version: "test"}
	s.Prompt = func(address, code string) {
		if address != "https://microsoft.com/devicelogin" || code != "GTHK-QPMN" {
			t.Errorf("asked to open %s with %s", address, code)
		}
	}
	return server, s
}

func checkList(t *testing.T, list *keys.List, server *entratest.Server, want int, named bool) {
	t.Helper()
	if len(list.Entries) != want {
		t.Fatalf("%d keys, want %d: %v", len(list.Entries), want, list.Problems)
	}
	for _, k := range server.Keys {
		id, _ := bitlocker.ParseGUID(k.ID)
		for _, e := range list.ForProtector(id) {
			if e.Password.Reveal() != k.Key || named && e.Computer != k.Name {
				t.Errorf("%s: computer %q", id, e.Computer)
			}
		}
	}
}

func TestKeys(t *testing.T) {
	for name, change := range map[string]func(s *entratest.Server){
		"smooth":               func(*entratest.Server) {},
		"person takes a while": func(s *entratest.Server) { s.Pending = 2 },
		"tokens expire":        func(s *entratest.Server) { s.TokenLife = 9 },
		"throttled":            func(s *entratest.Server) { s.Throttle, s.RetryAfter = 7, "0" },
		"breaks now and then":  func(s *entratest.Server) { s.Broken = 5 },
		"all at once":          func(s *entratest.Server) { s.TokenLife, s.Throttle, s.Broken = 11, 6, 10 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, s := tenant(t, 20)
			change(server)
			last := ""
			s.Progress = func(done, total int) { last = fmt.Sprint(done, " of ", total) }
			list, err := s.Keys(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			checkList(t, list, server, 20, true)
			if last != "20 of 20" || len(list.Problems) != 0 {
				t.Errorf("progress %s, problems %v", last, list.Problems)
			}
			if server.TokenLife > 0 && server.Refreshed() < 2 {
				t.Errorf("%d tokens refreshed", server.Refreshed())
			}
		})
	}
}

func TestThrottlingIsObeyed(t *testing.T) {
	server, s := tenant(t, 4)
	server.Throttle, server.RetryAfter = 5, "2"
	start := time.Now()
	list, err := s.Keys(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	checkList(t, list, server, 4, true)
	if took := time.Since(start); took < 2*time.Second {
		t.Errorf("came back after %v", took)
	}
}

func TestProblems(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(server *entratest.Server, s *Source)
		is     error
		text   string
		keys   int // in the list all the same
	}{
		"said no":           {func(server *entratest.Server, _ *Source) { server.Declined = true }, ErrLogin, "AADSTS70018: the person said no.", 0},
		"unknown app":       {func(_ *entratest.Server, s *Source) { s.Client = "unknown" }, ErrLogin, "AADSTS700016", 0},
		"no right":          {func(server *entratest.Server, _ *Source) { server.NoRight = true }, ErrNoRight, "BitLockerKey.Read.All", 0},
		"logged out":        {func(server *entratest.Server, _ *Source) { server.TokenLife, server.NoRefresh = 13, true }, ErrLogin, "AADSTS50173", -1},
		"stops working":     {func(server *entratest.Server, _ *Source) { server.FailAfter = 5 }, nil, "something is wrong", -1},
		"list leads away":   {func(server *entratest.Server, _ *Source) { server.ForeignNext = true }, nil, "another server", 0},
		"no https":          {func(_ *entratest.Server, s *Source) { s.Cloud.Graph = "http://graph.example.com" }, nil, "https only", 0},
		"no https to login": {func(_ *entratest.Server, s *Source) { s.Cloud.Login = "http://login.example.com" }, nil, "https only", 0},
		"no server":         {func(_ *entratest.Server, s *Source) { s.Cloud.Login = "http://localhost:1" }, nil, "refused", 0},
		"names needed": {func(server *entratest.Server, s *Source) {
			server.NoDevices, s.Filter.Computers = true, []string{"PC-*"}
		}, ErrNoRight, "names of the computers", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, s := tenant(t, 10)
			tc.change(server, s)
			list, err := s.Keys(context.Background())
			if err == nil || tc.is != nil && !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.text) {
				t.Fatalf("got %v", err)
			}
			if strings.Contains(err.Error(), "Trace") || strings.Contains(err.Error(), "access-") || strings.Contains(err.Error(), "refresh-") {
				t.Errorf("too much in %v", err)
			}
			if tc.keys >= 0 && len(list.Entries) != tc.keys || tc.keys < 0 && (len(list.Entries) == 0 || len(list.Entries) >= 10) {
				t.Errorf("%d keys", len(list.Entries))
			}
		})
	}
}

func TestMissingParts(t *testing.T) {
	server, s := tenant(t, 6)
	server.Missing, server.NoDevices = server.Keys[2].ID, true
	list, err := s.Keys(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	checkList(t, list, server, 5, false)
	if len(list.Problems) != 2 || list.Problems[0].Kind != keys.NoKey || list.Problems[0].ID.String() != server.Keys[2].ID ||
		!strings.Contains(list.Problems[1].Reason, "names of the computers are missing") {
		t.Errorf("problems %v", list.Problems)
	}
}

// TestFilter checks that what is not wanted is not asked for: each key that is makes
// an entry in the tenant's audit log.
func TestFilter(t *testing.T) {
	server, s := tenant(t, 10)
	s.Filter = keys.Filter{Computers: []string{"pc-[12]"}}
	list, err := s.Keys(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	checkList(t, list, server, 4, true)
	if n := len(server.Asked()); n != 4 {
		t.Errorf("asked for %d keys", n)
	}
}

func TestResume(t *testing.T) {
	server, s := tenant(t, 12)
	ctx, cancel := context.WithCancel(context.Background())
	server.OnKey = func(n int) {
		if n == 6 {
			cancel()
		}
	}
	first, err := s.Keys(ctx)
	if !errors.Is(err, context.Canceled) || len(first.Entries) == 0 || len(first.Entries) > 8 {
		t.Fatalf("%d keys, %v", len(first.Entries), err)
	}
	had := server.Asked()
	server.OnKey = nil
	s.Known = first
	list, err := s.Keys(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	checkList(t, list, server, 12, true)
	for _, e := range first.Entries {
		id := strings.ToLower(e.ID.String())
		if server.Asked()[id] != had[id] {
			t.Errorf("key %s was asked for again", id)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	if d := retryAfter("17"); d != 17*time.Second {
		t.Error(d)
	}
	if d := retryAfter(time.Now().Add(time.Minute).UTC().Format(http.TimeFormat)); d < 50*time.Second || d > time.Minute {
		t.Error(d)
	}
	for _, v := range []string{"", "soon", "-1", "99999999999999999999"} {
		if d := retryAfter(v); d >= 0 {
			t.Error(v, d)
		}
	}
}

// switched leads requests for any host to one server, and keeps what was asked of whom.
type switched struct {
	to string

	mu    sync.Mutex
	asked map[string]bool // scheme, host and first word of the path
}

func (s *switched) RoundTrip(r *http.Request) (*http.Response, error) {
	word := strings.SplitN(r.URL.Path, "/", 3)[1]
	s.mu.Lock()
	s.asked[r.URL.Scheme+"://"+r.URL.Host+"/"+word] = true
	s.mu.Unlock()
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = "http", strings.TrimPrefix(s.to, "http://")
	return http.DefaultTransport.RoundTrip(r)
}

// TestClouds logs in to each of Microsoft's clouds and sees who was asked: no cloud's token goes to another.
func TestClouds(t *testing.T) {
	if len(Clouds) != 4 {
		t.Errorf("%d clouds, and 4 are tested", len(Clouds))
	}
	for name, want := range map[string]struct{ login, graph string }{
		"global": {"https://login.microsoftonline.com", "https://graph.microsoft.com"},
		"usgov":  {"https://login.microsoftonline.us", "https://graph.microsoft.us"},
		"dod":    {"https://login.microsoftonline.us", "https://dod-graph.microsoft.us"},
		"china":  {"https://login.partner.microsoftonline.cn", "https://microsoftgraph.chinacloudapi.cn"},
	} {
		t.Run(name, func(t *testing.T) {
			server, source := tenant(t, 4)
			server.Graph = want.graph
			transport := &switched{to: server.URL, asked: map[string]bool{}}
			source.Cloud, source.Tenant, source.HTTP = Clouds[name], "example.com", &http.Client{Transport: transport}
			list, err := source.Keys(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			checkList(t, list, server, 4, true)
			asked := map[string]bool{want.login + "/example.com": true, want.graph + "/v1.0": true}
			if !maps.Equal(transport.asked, asked) {
				t.Errorf("asked %v, want %v", transport.asked, asked)
			}
		})
	}
}
