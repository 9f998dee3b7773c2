package entra

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
)

const (
	maxAnswer    = 64 << 20
	maxTries     = 12 // of one request, the waiting for throttling included
	maxRefreshes = 3  // of the token, for one request: others may use a new one up
	maxWait      = 10 * time.Minute
	firstBackoff = time.Second
)

// client asks Graph as the person that logged in.
type client struct {
	graph   string // scheme and host
	version string
	http    *http.Client
	config  *oauth2.Config

	mu     sync.Mutex
	token  *oauth2.Token
	pauses time.Time // nothing is asked before
}

// statusError is an answer other than 200.
type statusError struct {
	code int
	text string // Graph's code and message
}

func (e *statusError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("%d %s: %s", e.code, http.StatusText(e.code), e.text))
}

// connect logs in with a device code (RFC 8628).
func (s *Source) connect(ctx context.Context) (*client, error) {
	graph, err := origin(s.Cloud.Graph)
	if err != nil {
		return nil, err
	}
	login, err := origin(s.Cloud.Login)
	if err != nil {
		return nil, err
	}
	tenant, id := s.Tenant, s.Client
	if tenant == "" {
		tenant = "organizations"
	}
	if id == "" {
		id = DefaultClient
	}
	base := &http.Client{Timeout: 2 * time.Minute}
	if s.HTTP != nil {
		copied := *s.HTTP
		base = &copied
	}
	// Where Graph itself would send the token elsewhere, it does not go.
	base.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	endpoint := login + "/" + url.PathEscape(tenant) + "/oauth2/v2.0/"
	c := &client{graph: graph, version: s.Version, http: base, config: &oauth2.Config{
		ClientID: id,
		Endpoint: oauth2.Endpoint{DeviceAuthURL: endpoint + "devicecode", TokenURL: endpoint + "token", AuthStyle: oauth2.AuthStyleInParams},
		Scopes:   []string{"offline_access", graph + "/BitlockerKey.Read.All", graph + "/Device.Read.All"},
	}}
	ctx = context.WithValue(ctx, oauth2.HTTPClient, base)
	code, err := c.config.DeviceAuth(ctx)
	if err != nil {
		return nil, loginError(err)
	}
	s.Prompt(code.VerificationURI, code.UserCode)
	if c.token, err = c.config.DeviceAccessToken(ctx, code); err != nil {
		return nil, loginError(err)
	}
	return c, nil
}

// origin checks an address that secrets are sent to.
func origin(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return "", fmt.Errorf("%q: want https://HOST", address)
	}
	local := u.Hostname() == "localhost" || u.Hostname() == "127.0.0.1" || u.Hostname() == "::1"
	if u.Scheme != "https" && (u.Scheme != "http" || !local) {
		return "", fmt.Errorf("%q: secrets go over https only", address)
	}
	return u.Scheme + "://" + u.Host, nil
}

// loginError tells what the login server said, without the rest of its answer.
func loginError(err error) error {
	var reply *oauth2.RetrieveError
	if !errors.As(err, &reply) {
		return err
	}
	what := reply.ErrorCode
	if what == "" && reply.Response != nil {
		what = reply.Response.Status
	}
	// Microsoft's descriptions go on with lines of trace IDs.
	if line, _, _ := strings.Cut(reply.ErrorDescription, "\n"); line != "" {
		what += ": " + strings.TrimSpace(line)
	}
	return fmt.Errorf("%w: %s", ErrLogin, printable(what))
}

// printable bounds what a server says, and drops what could disturb a terminal.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
	return s[:min(len(s), 500)]
}

// get asks for an object. It waits where Graph says so, tries again what may work
// the next time, and gets a new token where the old one is no longer good.
func (c *client) get(ctx context.Context, path string, into any) error {
	backoff := firstBackoff
	refreshed := 0
	for try := 1; ; try++ {
		token, err := c.wait(ctx)
		if err != nil {
			return err
		}
		answer, wait, err := c.once(ctx, path, token)
		if err == nil {
			if err := json.Unmarshal(answer, into); err != nil {
				return errors.New("the answer is not the JSON that Graph documents")
			}
			return nil
		}
		var status *statusError
		isStatus := errors.As(err, &status)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case isStatus && status.code == http.StatusUnauthorized && refreshed < maxRefreshes:
			refreshed++
			if err := c.refresh(ctx, token); err != nil {
				return err
			}
			continue
		case isStatus && (status.code == http.StatusUnauthorized || status.code == http.StatusForbidden):
			return fmt.Errorf("%w: %w", ErrNoRight, err)
		case isStatus && status.code != http.StatusTooManyRequests && status.code < 500:
			return err
		case try >= maxTries:
			return fmt.Errorf("gave up after %d tries: %w", try, err)
		}
		if wait < 0 {
			wait = backoff
			backoff = min(2*backoff, time.Minute)
		}
		c.pause(min(wait, maxWait))
	}
}

// once asks once. wait is how long the server wants to be left alone, or negative.
func (c *client) once(ctx context.Context, path, token string) (answer []byte, wait time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.graph+path, nil)
	if err != nil {
		return nil, -1, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Accept", "application/json")
	// Graph wants to know who asks for keys.
	req.Header.Set("User-Agent", "bootmend/"+c.version)
	req.Header.Set("Ocp-Client-Name", "bootmend")
	req.Header.Set("Ocp-Client-Version", c.version)
	reply, err := c.http.Do(req)
	if err != nil {
		return nil, -1, err
	}
	defer reply.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(reply.Body, maxAnswer+1))
	if err != nil {
		return nil, -1, err
	}
	if len(answer) > maxAnswer {
		return nil, -1, &statusError{http.StatusOK, "the answer is too long"}
	}
	if reply.StatusCode == http.StatusOK {
		return answer, 0, nil
	}
	var told struct {
		Error struct{ Code, Message string }
	}
	_ = json.Unmarshal(answer, &told) // an error page tells its status at least
	return nil, retryAfter(reply.Header.Get("Retry-After")), &statusError{reply.StatusCode, printable(strings.TrimSpace(told.Error.Code + " " + told.Error.Message))}
}

// retryAfter reads the header (RFC 9110, section 10.2.3): seconds or a date.
func retryAfter(value string) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(time.Until(at), 0)
	}
	return -1
}

// pause keeps every request waiting.
func (c *client) pause(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if until := time.Now().Add(d); until.After(c.pauses) {
		c.pauses = until
	}
}

// wait waits for the end of a pause, and gives the token.
func (c *client) wait(ctx context.Context) (string, error) {
	for {
		c.mu.Lock()
		left, token := time.Until(c.pauses), c.token
		c.mu.Unlock()
		if left <= 0 {
			if token.Valid() {
				return token.AccessToken, nil
			}
			if err := c.refresh(ctx, token.AccessToken); err != nil {
				return "", err
			}
			continue
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return "", ctx.Err()
		}
	}
}

// refresh gets a new token, unless another request has done so already.
func (c *client) refresh(ctx context.Context, old string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token.AccessToken != old && c.token.Valid() {
		return nil
	}
	ctx = context.WithValue(ctx, oauth2.HTTPClient, c.http)
	token, err := c.config.TokenSource(ctx, &oauth2.Token{RefreshToken: c.token.RefreshToken}).Token()
	if err != nil {
		return fmt.Errorf("log in again: %w", loginError(err))
	}
	c.token = token
	return nil
}
