// Package entratest is a small Microsoft Graph and its login server, for tests:
// they answer in the shapes that Microsoft documents, and in the same bad moods.
package entratest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// Key is what the tenant holds.
type Key struct {
	ID, Key, Device, Name string // Name is the device's
}

// Server is a tenant. Change its fields before the first request.
type Server struct {
	URL  string // of both servers
	Keys []Key
	// Graph is what Graph is called by where that is not URL: a name that the test's transport leads here.
	Graph string

	PageSize    int
	Pending     int  // polls before the person has logged in
	Declined    bool // the person says no
	TokenLife   int  // requests that an access token is good for; 0 is any number
	NoRefresh   bool // refresh tokens are no good
	Throttle    int  // every so many requests, one is told to come back; 0 is never
	RetryAfter  string
	Broken      int  // every so many requests, one fails with 503; 0 is never
	NoDevices   bool // Device.Read.All is missing
	NoRight     bool
	FailAfter   int    // keys after which everything fails with 400; 0 is never
	Missing     string // ID of a key that is in the list and not there
	ForeignNext bool   // the list goes on elsewhere
	OnKey       func(n int)

	mu       sync.Mutex
	requests int
	tokens   int
	used     int
	asked    map[string]int // how often, by ID
	polls    int
	problems []string
}

// Start runs a tenant for the time of a test.
func Start(t testing.TB, all []Key) *Server {
	t.Helper()
	s := &Server{Keys: all, PageSize: 3, RetryAfter: "0", asked: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{tenant}/oauth2/v2.0/devicecode", s.deviceCode)
	mux.HandleFunc("POST /{tenant}/oauth2/v2.0/token", s.token)
	mux.HandleFunc("GET /v1.0/informationProtection/bitlocker/recoveryKeys", s.graph(s.list))
	mux.HandleFunc("GET /v1.0/informationProtection/bitlocker/recoveryKeys/{id}", s.graph(s.key))
	mux.HandleFunc("GET /v1.0/devices", s.graph(s.devices))
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		server.Close()
		for _, p := range s.problems {
			t.Errorf("request: %s", p)
		}
	})
	s.URL = server.URL
	return s
}

func (s *Server) graphURL() string {
	if s.Graph != "" {
		return s.Graph
	}
	return s.URL
}

// Asked is how often each key was asked for.
func (s *Server) Asked() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := map[string]int{}
	for id, n := range s.asked {
		asked[id] = n
	}
	return asked
}

// Refreshed is how many access tokens were given after the first.
func (s *Server) Refreshed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tokens - 1
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (s *Server) wrong(format string, args ...any) {
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
}

func (s *Server) deviceCode(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if scope := r.FormValue("scope"); !strings.Contains(scope, "offline_access") || !strings.Contains(scope, s.graphURL()+"/BitlockerKey.Read.All") {
		s.wrong("scope %q", scope)
	}
	if r.FormValue("client_id") == "unknown" {
		answer(w, http.StatusBadRequest, map[string]any{"error": "unauthorized_client",
			"error_description": "AADSTS700016: Application with identifier 'unknown' was not found.\r\nTrace ID: 1\r\n"})
		return
	}
	answer(w, http.StatusOK, map[string]any{"user_code": "GTHK-QPMN", "device_code": "device-code-1", "verification_uri": "https://microsoft.com/devicelogin",
		"expires_in": 900, "interval": 1, "message": "To sign in, use a web browser"})
}

func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch grant := r.FormValue("grant_type"); grant {
	case "urn:ietf:params:oauth:grant-type:device_code":
		if r.FormValue("device_code") != "device-code-1" {
			s.wrong("device code %q", r.FormValue("device_code"))
		}
		if s.polls++; s.Declined {
			answer(w, http.StatusBadRequest, map[string]any{"error": "authorization_declined", "error_description": "AADSTS70018: the person said no.\r\nTrace ID: 1"})
			return
		}
		if s.polls <= s.Pending {
			answer(w, http.StatusBadRequest, map[string]any{"error": "authorization_pending", "error_description": "AADSTS70016: pending"})
			return
		}
	case "refresh_token":
		if want := fmt.Sprintf("refresh-%d", s.tokens); r.FormValue("refresh_token") != want {
			s.wrong("refresh token %q, want %s", r.FormValue("refresh_token"), want)
		}
		if s.NoRefresh {
			answer(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant", "error_description": "AADSTS50173: the password was changed.\r\nTrace ID: 1"})
			return
		}
	default:
		s.wrong("grant type %q", grant)
	}
	s.tokens++
	s.used = 0
	answer(w, http.StatusOK, map[string]any{"token_type": "Bearer", "expires_in": 3600,
		"access_token": fmt.Sprintf("access-%d", s.tokens), "refresh_token": fmt.Sprintf("refresh-%d", s.tokens)})
}

func fail(w http.ResponseWriter, status int, code, message string) {
	answer(w, status, map[string]any{"error": map[string]any{"code": code, "message": message, "innerError": map[string]any{"date": "2024-07-19T05:31:43"}}})
}

// graph does for every request what Graph does before it looks at it.
func (s *Server) graph(next func(w http.ResponseWriter, r *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.requests++
		current := r.Header.Get("Authorization") == fmt.Sprintf("Bearer access-%d", s.tokens)
		if current {
			s.used++
		}
		for _, h := range []string{"Ocp-Client-Name", "Ocp-Client-Version"} {
			if r.Header.Get(h) == "" {
				s.wrong("%s without %s", r.URL.Path, h)
			}
		}
		switch {
		case !current || s.TokenLife > 0 && s.used > s.TokenLife:
			fail(w, http.StatusUnauthorized, "InvalidAuthenticationToken", "Lifetime validation failed, the token is expired.")
		case s.NoRight:
			fail(w, http.StatusForbidden, "authorization_error", "Failed to authorize, at least one of the following permissions is required: BitLockerKey.Read.All")
		case s.Throttle > 0 && s.requests%s.Throttle == 0:
			w.Header().Set("Retry-After", s.RetryAfter)
			fail(w, http.StatusTooManyRequests, "TooManyRequests", "Too many requests")
		case s.Broken > 0 && s.requests%s.Broken == 0:
			w.Header().Set("Retry-After", time.Now().UTC().Format(http.TimeFormat))
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte("<html>Service Unavailable</html>"))
		default:
			next(w, r)
		}
	}
}

func (s *Server) page(w http.ResponseWriter, r *http.Request, path string, all []any) {
	start := 0
	_, _ = fmt.Sscanf(r.FormValue("$skiptoken"), "page-%d", &start)
	end := min(start+s.PageSize, len(all))
	reply := map[string]any{"@odata.context": s.graphURL() + "/v1.0/$metadata", "value": all[min(start, end):end]}
	if end < len(all) {
		reply["@odata.nextLink"] = fmt.Sprintf("%s%s?$skiptoken=page-%d", s.graphURL(), path, end)
		if s.ForeignNext {
			reply["@odata.nextLink"] = "https://graph.example.org" + path
		}
	}
	answer(w, http.StatusOK, reply)
}

func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	all := []any{}
	for _, k := range s.Keys {
		all = append(all, map[string]any{"id": strings.ToLower(k.ID), "createdDateTime": "2024-03-11T08:12:00Z", "volumeType": "operatingSystemVolume", "deviceId": k.Device})
	}
	s.page(w, r, r.URL.Path, all)
}

func (s *Server) devices(w http.ResponseWriter, r *http.Request) {
	if s.NoDevices {
		fail(w, http.StatusForbidden, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")
		return
	}
	all := []any{}
	for _, k := range s.Keys {
		all = append(all, map[string]any{"deviceId": strings.ToUpper(k.Device), "displayName": k.Name})
	}
	s.page(w, r, r.URL.Path, all)
}

func (s *Server) key(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	s.asked[id]++
	if r.FormValue("$select") != "key" {
		s.wrong("key %s without $select=key", id)
	}
	if s.OnKey != nil {
		s.OnKey(len(s.asked))
	}
	if s.FailAfter > 0 && len(s.asked) > s.FailAfter {
		fail(w, http.StatusBadRequest, "BadRequest", "something is wrong")
		return
	}
	for _, k := range s.Keys {
		if strings.EqualFold(k.ID, id) && !strings.EqualFold(s.Missing, id) {
			answer(w, http.StatusOK, map[string]any{"id": id, "createdDateTime": "2024-03-11T08:12:00Z", "deviceId": k.Device, "key": k.Key})
			return
		}
	}
	fail(w, http.StatusNotFound, "ResourceNotFound", "The key was not found")
}
