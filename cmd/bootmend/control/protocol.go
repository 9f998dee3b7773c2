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

// body reads a request and makes sure that it is proven. Otherwise it answers it, and ok is false.
func (s *Server) body(w http.ResponseWriter, r *http.Request, limit int64) (body []byte, ok bool) {
	challenge := r.Header.Get(fleet.HeaderChallenge)
	nonce, until, ok := s.challenges.valid(challenge, s.now())
	if ok {
		var err error
		if body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, limit)); err != nil {
			http.Error(w, "too large or not whole", http.StatusRequestEntityTooLarge)
			return nil, false
		}
		ok = s.options.Token.Check(r.Header.Get(fleet.HeaderProof), challenge, r.URL.Path, body) && s.challenges.use(nonce, until, s.now())
	}
	w.Header().Set(fleet.HeaderChallenge, s.challenges.make(s.now()))
	if !ok {
		s.mu.Lock()
		s.counts.refused++
		s.mu.Unlock()
		http.Error(w, "no proof", http.StatusUnauthorized)
	}
	return body, ok
}

// proven is a handler that takes and gives JSON.
func proven[Q, A any](s *Server, limit int64, answer func(ctx context.Context, from string, q Q) (A, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, ok := s.body(w, r, limit)
		if !ok {
			return
		}
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
	}
}

func (s *Server) serveReport(w http.ResponseWriter, r *http.Request) {
	body, ok := s.body(w, r, fleet.MaxReport)
	if !ok {
		return
	}
	if err := s.report(r.Context(), hostOf(r.RemoteAddr), r.PathValue("run"), body); err != nil {
		s.fail(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
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
