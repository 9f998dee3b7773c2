package control

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"sync"
	"time"

	"github.com/bootmend/bootmend/cmd/bootmend/control/store"
	"github.com/bootmend/bootmend/remediate/fleet"
)

var (
	errBadRequest     = errors.New("not a request of a machine")
	errFull           = errors.New("the space for logs and records is used up: give more of it (--space), or begin with a new database")
	errUnknownMachine = errors.New("the machine is not there any more: it may have started again")
)

// challenges makes and checks challenges. One that was only given out takes no memory, so a flood of them costs nothing;
// one that a right proof was made with is remembered until it would be too old anyway.
type challenges struct {
	secret [32]byte
	mu     sync.Mutex
	used   map[[16]byte]int64 // until when, Unix time
	pruned int64
}

const (
	challengeAge = 2 * time.Minute
	nonceSize    = 16
	macSize      = sha256.Size
)

func newChallenges() *challenges {
	c := &challenges{used: map[[16]byte]int64{}}
	_, _ = rand.Read(c.secret[:]) // never fails
	return c
}

// make returns a number drawn by chance, when it ends, and the server's own seal on both.
func (c *challenges) make(now time.Time) string {
	b := make([]byte, nonceSize, nonceSize+8+macSize)
	_, _ = rand.Read(b)
	b = binary.BigEndian.AppendUint64(b, uint64(now.Add(challengeAge).Unix()))
	return base64.RawURLEncoding.EncodeToString(append(b, c.seal(b)...))
}

func (c *challenges) seal(b []byte) []byte {
	mac := hmac.New(sha256.New, c.secret[:])
	mac.Write(b)
	return mac.Sum(nil)
}

// valid reports whether a challenge is this server's and not too old.
func (c *challenges) valid(text string, now time.Time) (nonce [16]byte, until int64, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) != nonceSize+8+macSize || !hmac.Equal(b[nonceSize+8:], c.seal(b[:nonceSize+8])) {
		return nonce, 0, false
	}
	until = int64(binary.BigEndian.Uint64(b[nonceSize:]))
	return [16]byte(b), until, now.Unix() <= until
}

// use takes a challenge that was proven; false is one that was used before.
func (c *challenges) use(nonce [16]byte, until int64, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Unix() > c.pruned+int64(challengeAge/time.Second) {
		c.pruned = now.Unix()
		for n, end := range c.used {
			if end < now.Unix() {
				delete(c.used, n)
			}
		}
	}
	if _, used := c.used[nonce]; used {
		return false
	}
	c.used[nonce] = until
	return true
}

func (s *Server) serveChallenge(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set(fleet.HeaderChallenge, s.challenges.make(s.now()))
	w.WriteHeader(http.StatusNoContent)
}

// withBody reads a request that is proven and has answer answer it. Of one without a proof nothing is read.
func (s *Server) withBody(w http.ResponseWriter, r *http.Request, limit int64, answer func(body []byte)) {
	challenge, now := r.Header.Get(fleet.HeaderChallenge), s.now()
	nonce, until, valid := s.challenges.valid(challenge, now)
	sum, digest := fleet.ParseDigest(r.Header.Get(fleet.HeaderDigest))
	ok := valid && digest && s.options.Token.Check(r.Header.Get(fleet.HeaderProof), challenge, r.URL.Path, sum) && s.challenges.use(nonce, until, now)
	w.Header().Set(fleet.HeaderChallenge, s.challenges.make(now))
	if !ok {
		s.mu.Lock()
		s.counts.refused++
		s.mu.Unlock()
		http.Error(w, "no proof", http.StatusUnauthorized)
		return
	}
	switch {
	case r.ContentLength < 0:
		http.Error(w, "how long is it?", http.StatusLengthRequired)
		return
	case r.ContentLength > limit:
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		return
	}
	site := siteOf(hostOf(r.RemoteAddr))
	if !s.reading.take(site, r.ContentLength) {
		w.Header().Set("Retry-After", "3")
		http.Error(w, "too much at once: ask again", http.StatusServiceUnavailable)
		return
	}
	defer s.reading.give(site, r.ContentLength)
	body, err := io.ReadAll(r.Body)
	if err != nil || sha256.Sum256(body) != sum {
		http.Error(w, "not whole", http.StatusBadRequest)
		return
	}
	answer(body)
}

// How much of requests is held at once, in bytes: who has the token must not fill the memory.
const (
	maxReading       = 256 << 20
	maxReadingOfSite = 64 << 20
)

// reading is what is held of requests, of all machines and of those behind one address.
type reading struct {
	mu  sync.Mutex
	all int64
	of  map[string]int64
}

func newReading() *reading { return &reading{of: map[string]int64{}} }

func (r *reading) take(site string, n int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all+n > maxReading || r.of[site]+n > maxReadingOfSite {
		return false
	}
	r.all += n
	r.of[site] += n
	return true
}

func (r *reading) give(site string, n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all -= n
	if r.of[site] -= n; r.of[site] == 0 {
		delete(r.of, site)
	}
}

// proven is a handler that takes and gives JSON.
func proven[Q, A any](s *Server, limit int64, answer func(ctx context.Context, from string, q Q) (A, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.withBody(w, r, limit, func(body []byte) {
			var q Q
			if err := json.Unmarshal(body, &q); err != nil {
				http.Error(w, errBadRequest.Error(), http.StatusBadRequest)
				return
			}
			a, err := answer(r.Context(), hostOf(r.RemoteAddr), q)
			if err != nil {
				s.fail(w, err)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "no-store")
			_ = json.NewEncoder(w).Encode(a) // a client that is gone asks again
		})
	}
}

func (s *Server) serveReport(w http.ResponseWriter, r *http.Request) {
	s.withBody(w, r, fleet.MaxReport, func(body []byte) {
		if err := s.report(r.Context(), hostOf(r.RemoteAddr), r.PathValue("run"), body); err != nil {
			s.fail(w, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

// fail answers with an error. What is the server's own matter is told to its person only.
func (s *Server) fail(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, errBadRequest):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case errors.Is(err, errFull):
		http.Error(w, "no space", http.StatusInsufficientStorage)
	case errors.Is(err, store.ErrDatabase): // the person was told already
		w.Header().Set("Retry-After", "3")
		http.Error(w, "the database does not answer: ask again", http.StatusServiceUnavailable)
	default:
		s.options.Printf("error: %v", err)
		http.Error(w, "the server has a problem of its own", http.StatusInternalServerError)
	}
}

func quietLog() *log.Logger { return log.New(io.Discard, "", 0) }
