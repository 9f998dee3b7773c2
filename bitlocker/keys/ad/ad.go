package ad

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/bootmend/bootmend/bitlocker/keys"
)

// Source is a directory to read keys from.
type Source struct {
	// URL is ldaps://HOST[:PORT], or ldap://HOST[:PORT], which goes on to TLS
	// (StartTLS) unless Plain is set.
	URL string
	// Plain leaves TLS out: the keys, and the password of a simple bind, cross the
	// network readable.
	Plain bool
	// Roots are the authorities that the server's certificate must come from; nil
	// means the system's.
	Roots *x509.CertPool
	// Bases are the containers that are searched, with what is in them. Without
	// one, the whole domain is.
	Bases []string
	// Login says who asks.
	Login Login
	// PageSize is how many objects are asked for at a time; 0 means 500. Servers
	// give no more than 1000.
	PageSize uint32
	// Progress, if not nil, is told how many objects were read.
	Progress func(objects int)
}

// Login binds to the directory: [Simple], [Kerberos] or [Anonymous].
type Login interface {
	bind(conn *ldap.Conn, host string, certificate *x509.Certificate) error
	secret() bool // a password crosses the network
}

// Simple is a login with a name, such as user@example.com or a DN, and a password.
type Simple struct {
	Name     string
	Password Password
}

// Password is what a person typed. It shows nothing of itself.
type Password struct{ text *string }

// NewPassword keeps a password.
func NewPassword(text string) Password { return Password{&text} }

// String hides the password.
func (Password) String() string { return "[redacted]" }

// GoString hides the password.
func (Password) GoString() string { return "[redacted]" }

func (p Password) reveal() string {
	if p.text == nil {
		return ""
	}
	return *p.text
}

func (s Simple) secret() bool { return true }

func (s Simple) bind(conn *ldap.Conn, _ string, _ *x509.Certificate) error {
	if s.Password.reveal() == "" {
		// RFC 4513, section 5.1.2: the server would take it for an anonymous login.
		return errors.New("the password is empty")
	}
	return conn.Bind(s.Name, s.Password.reveal())
}

// Anonymous is no login, which few directories accept.
type Anonymous struct{}

func (Anonymous) secret() bool { return false }

func (Anonymous) bind(conn *ldap.Conn, _ string, _ *x509.Certificate) error {
	return conn.UnauthenticatedBind("")
}

// Errors that callers tell a person more about.
var (
	ErrLogin   = errors.New("the directory does not accept the login")
	ErrTLS     = errors.New("no protected connection")
	ErrNoRight = errors.New("the login may not read recovery keys")
)

const (
	defaultPageSize = 500
	maxObjects      = 2_000_000
	dialTimeout     = 20 * time.Second
	replyTimeout    = 2 * time.Minute
)

// String names the source.
func (s *Source) String() string { return s.URL }

// Keys implements [keys.Source].
func (s *Source) Keys(ctx context.Context) (*keys.List, error) {
	inner, done := context.WithCancel(ctx)
	defer done() // closes the connection
	var list *keys.List
	conn, certificate, host, err := s.dial(inner)
	if err == nil {
		list, err = s.read(ctx, conn, host, certificate)
		conn.Close()
	}
	if ctx.Err() != nil {
		return nil, ctx.Err() // not that the connection was closed
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.URL, err)
	}
	return list, nil
}

func (s *Source) dial(ctx context.Context) (_ *ldap.Conn, certificate *x509.Certificate, host string, err error) {
	u, err := url.Parse(s.URL)
	if err != nil || u.Hostname() == "" || u.Scheme != "ldap" && u.Scheme != "ldaps" || strings.Trim(u.Path, "/") != "" || u.User != nil {
		return nil, nil, "", errors.New("want ldaps://HOST or ldap://HOST, with a port or without")
	}
	if u.Scheme == "ldap" && s.Plain && s.Login.secret() && !isLoopback(u.Hostname()) {
		return nil, nil, "", fmt.Errorf("%w: a password does not go readable over the network", ErrTLS)
	}
	config := &tls.Config{ServerName: u.Hostname(), RootCAs: s.Roots, MinVersion: tls.VersionTLS12}
	port := u.Port()
	if port == "" {
		port = map[string]string{"ldap": ldap.DefaultLdapPort, "ldaps": ldap.DefaultLdapsPort}[u.Scheme]
	}
	raw, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, nil, "", err
	}
	context.AfterFunc(ctx, func() { raw.Close() })
	stream := raw
	if u.Scheme == "ldaps" {
		secured := tls.Client(raw, config)
		handshake, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		if err := secured.HandshakeContext(handshake); err != nil {
			return nil, nil, "", fmt.Errorf("%w: %w", ErrTLS, err)
		}
		stream = secured
	}
	conn := ldap.NewConn(stream, u.Scheme == "ldaps")
	conn.Start()
	conn.SetTimeout(replyTimeout)
	if u.Scheme == "ldap" && !s.Plain {
		if err := conn.StartTLS(config); err != nil {
			conn.Close()
			return nil, nil, "", fmt.Errorf("%w: %w", ErrTLS, unwrapped(err))
		}
	}
	if state, ok := conn.TLSConnectionState(); ok && len(state.PeerCertificates) > 0 {
		certificate = state.PeerCertificates[0]
	}
	return conn, certificate, u.Hostname(), nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (s *Source) read(ctx context.Context, conn *ldap.Conn, host string, certificate *x509.Certificate) (*keys.List, error) {
	if err := s.Login.bind(conn, host, certificate); err != nil {
		var reply *ldap.Error
		if errors.As(err, &reply) && reply.ResultCode != ldap.ErrorNetwork {
			// What the server says in addition ("data 52e") is kept: it tells an
			// expired password from a wrong one.
			return nil, fmt.Errorf("%w: %w", ErrLogin, unwrapped(err))
		}
		return nil, fmt.Errorf("log in: %w", err)
	}
	bases := s.Bases
	if len(bases) == 0 {
		base, err := domain(conn)
		if err != nil {
			return nil, err
		}
		bases = []string{base}
	}
	b := keys.NewBuilder(s.URL)
	objects := 0
	for _, base := range bases {
		if err := s.search(ctx, conn, base, b, &objects); err != nil {
			return nil, fmt.Errorf("search %s: %w", base, err)
		}
	}
	list := b.List()
	if objects > 0 && list.Len() == 0 && len(list.Problems) > 0 && list.Problems[0].Kind == keys.NoKey {
		return nil, fmt.Errorf("%d recovery objects, and the password of none: %w", objects, ErrNoRight)
	}
	return list, nil
}

// domain asks the server which domain it serves (RFC 4512, section 5.1).
func domain(conn *ldap.Conn) (string, error) {
	reply, err := conn.Search(ldap.NewSearchRequest("", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false,
		"(objectClass=*)", []string{"defaultNamingContext", "namingContexts"}, nil))
	if err != nil {
		return "", fmt.Errorf("ask for the domain: %w", unwrapped(err))
	}
	if len(reply.Entries) == 1 {
		e := reply.Entries[0]
		if base := e.GetAttributeValue("defaultNamingContext"); base != "" {
			return base, nil
		}
		if bases := e.GetAttributeValues("namingContexts"); len(bases) == 1 {
			return bases[0], nil
		}
	}
	return "", errors.New("the server does not tell its domain: name a base DN")
}

// The attributes and the class of MS-ADA2, sections 2.515 and following.
const (
	class        = "msFVE-RecoveryInformation"
	attrGUID     = "msFVE-RecoveryGuid"
	attrPassword = "msFVE-RecoveryPassword"
)

// search reads the recovery objects below a base, page by page (RFC 2696).
func (s *Source) search(ctx context.Context, conn *ldap.Conn, base string, b *keys.Builder, objects *int) error {
	size := s.PageSize
	if size == 0 {
		size = defaultPageSize
	}
	paging := ldap.NewControlPaging(size)
	for ctx.Err() == nil {
		reply, err := conn.Search(ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false,
			"(objectClass="+class+")", []string{attrGUID, attrPassword}, []ldap.Control{paging}))
		if err != nil {
			return unwrapped(err)
		}
		for _, e := range reply.Entries {
			b.AddObject(e.DN, e.GetRawAttributeValue(attrGUID), e.GetAttributeValue(attrPassword))
		}
		if *objects += len(reply.Entries); *objects > maxObjects {
			return fmt.Errorf("more than %d recovery objects", maxObjects)
		}
		if s.Progress != nil {
			s.Progress(*objects)
		}
		next, ok := ldap.FindControl(reply.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging)
		if !ok || len(next.Cookie) == 0 {
			return nil
		}
		if len(reply.Entries) == 0 && string(next.Cookie) == string(paging.Cookie) {
			return errors.New("the server repeats an empty page")
		}
		paging.SetCookie(next.Cookie)
	}
	return ctx.Err()
}

// unwrapped takes the number and the library's words off a server's answer.
func unwrapped(err error) error {
	var reply *ldap.Error
	switch {
	case !errors.As(err, &reply):
		return err
	case reply.ResultCode >= ldap.ErrorNetwork && reply.Err != nil: // no answer of the server's
		return reply.Err
	case reply.Err != nil && reply.Err.Error() != "":
		return fmt.Errorf("%s: %w", ldap.LDAPResultCodeMap[reply.ResultCode], reply.Err)
	}
	return errors.New(ldap.LDAPResultCodeMap[reply.ResultCode])
}
