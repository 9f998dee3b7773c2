package fleet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/remediate"
)

// ErrRefused is the answer of a server that does not know the token of these media.
var ErrRefused = errors.New("the server does not accept the token of these media: build them again with the server's own file")

// ErrCertificate is a server with another certificate than the media say.
var ErrCertificate = errors.New("the server has another certificate than these media say: build them again with the server's own file, or find out who answers in its place")

// Client is a machine's end. It may be used by several goroutines.
type Client struct {
	address string
	token   Token
	run     remediate.Run
	http    *http.Client

	mu        sync.Mutex
	challenge string // for the next request
}

// NewClient talks to the server at address, "https://HOST:PORT", whose certificate has the SHA-256 pin. Nothing is sent yet.
func NewClient(address string, pin [sha256.Size]byte, token Token, run remediate.Run) *Client {
	transport := &http.Transport{
		TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: 20 * time.Second, ExpectContinueTimeout: 5 * time.Second,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS13,
			// The clock of a broken machine may be wrong and no authority is asked: the certificate is known.
			InsecureSkipVerify: true,
			VerifyConnection: func(state tls.ConnectionState) error {
				if sha256.Sum256(state.PeerCertificates[0].Raw) != pin {
					return ErrCertificate
				}
				return nil
			},
		},
	}
	return &Client{address: address, token: token, run: run, http: &http.Client{Transport: transport, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// Hello tells of the machine and asks what to do.
func (c *Client) Hello(ctx context.Context) (Welcome, error) {
	var w Welcome
	err := c.ask(ctx, PathHello, Hello{Run: c.run.Name(), Machine: c.run.Machine, Version: c.run.ToolVersion}, &w)
	if err == nil && w.Decision != Heal && w.Decision != DryRun && w.Decision != Leave {
		err = fmt.Errorf("the server's decision %q is not known here: build the media with a newer bootmend", w.Decision)
	}
	return w, err
}

// Key asks for the recovery password of a key protector. ok is false where a person has to act at the server first: ask
// again after a while.
func (c *Client) Key(ctx context.Context, protector bitlocker.GUID, volume string) (key bitlocker.RecoveryPassword, ok bool, err error) {
	var answer KeyAnswer
	err = c.ask(ctx, PathKey, KeyRequest{Run: c.run.Name(), Machine: c.run.Machine, Protector: protector.String(), Volume: volume}, &answer)
	if err != nil || answer.State != Given {
		return key, false, err
	}
	key, err = bitlocker.ParseRecoveryPassword(answer.Key)
	if err != nil {
		return key, false, fmt.Errorf("the server's key for %s: %w", protector, err)
	}
	return key, true, nil
}

// Step tells how far the repair is.
func (c *Client) Step(ctx context.Context, step string) error {
	return c.ask(ctx, PathStep, Step{Run: c.run.Name(), Step: step}, nil)
}

// Report hands the log in. Without an error the server has it on its disk. The log of a run may be sent again, with more
// in it.
func (c *Client) Report(ctx context.Context, log []byte) error {
	return c.post(ctx, PathReport+"/"+c.run.Name(), log, nil)
}

func (c *Client) ask(ctx context.Context, path string, question, answer any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return err
	}
	return c.post(ctx, path, body, answer)
}

// post sends a request with its proof. A challenge may have been used or grown old meanwhile: then a new one is taken.
func (c *Client) post(ctx context.Context, path string, body []byte, answer any) error {
	for try := 0; ; try++ {
		challenge, err := c.take(ctx)
		if err != nil {
			return err
		}
		status, err := c.send(ctx, path, challenge, body, answer)
		switch {
		case err != nil:
			return err
		case status == http.StatusUnauthorized && try == 0:
			continue
		case status == http.StatusUnauthorized:
			return ErrRefused
		case status/100 != 2:
			return fmt.Errorf("the server answers %s: %d %s", path, status, http.StatusText(status))
		}
		return nil
	}
}

// take returns a challenge that nobody else has.
func (c *Client) take(ctx context.Context) (string, error) {
	c.mu.Lock()
	challenge := c.challenge
	c.challenge = ""
	c.mu.Unlock()
	if challenge != "" {
		return challenge, nil
	}
	if _, err := c.send(ctx, PathChallenge, "", nil, nil); err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	challenge, c.challenge = c.challenge, ""
	if challenge == "" {
		return "", errors.New("what answers there is no bootmend server: it gives no challenge")
	}
	return challenge, nil
}

func (c *Client) send(ctx context.Context, path, challenge string, body []byte, answer any) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.address+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	if challenge != "" {
		request.Header.Set(HeaderChallenge, challenge)
		sum := sha256.Sum256(body)
		request.Header.Set(HeaderDigest, Digest(sum))
		request.Header.Set(HeaderProof, c.token.Proof(challenge, path, sum))
		if len(body) > MaxRequest {
			request.Header.Set("Expect", "100-continue") // a challenge that has grown old must not cost the whole log
		}
	}
	response, err := c.http.Do(request)
	if failed := (*url.Error)(nil); errors.As(err, &failed) {
		err = failed.Err // the address is said by whoever tells of it
	}
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }() // read only
	if next := response.Header.Get(HeaderChallenge); next != "" {
		c.mu.Lock()
		c.challenge = next
		c.mu.Unlock()
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, MaxRequest))
	if err != nil {
		return 0, err
	}
	if answer != nil && response.StatusCode/100 == 2 {
		if err := json.Unmarshal(data, answer); err != nil {
			return 0, fmt.Errorf("the server's answer to %s: %w", path, err)
		}
	}
	return response.StatusCode, nil
}
