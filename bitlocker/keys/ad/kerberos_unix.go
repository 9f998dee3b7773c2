//go:build !windows

package ad

import (
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"
	"github.com/go-ldap/ldap/v3/gssapi"
)

// Kerberos is a login with the ticket that kinit got.
type Kerberos struct {
	// Cache is the ticket file. Empty means $KRB5CCNAME, or where kinit puts it.
	Cache string
	// Config is the Kerberos configuration. Empty means $KRB5_CONFIG, or
	// /etc/krb5.conf.
	Config string
}

func (Kerberos) secret() bool { return false }

func (k Kerberos) bind(conn *ldap.Conn, host string, _ *x509.Certificate) error {
	cache := k.Cache
	if cache == "" {
		cache = os.Getenv("KRB5CCNAME")
	}
	if cache == "" {
		cache = fmt.Sprintf("/tmp/krb5cc_%d", os.Getuid())
	}
	if kind, path, ok := strings.Cut(cache, ":"); ok {
		if kind != "FILE" {
			return fmt.Errorf("the Kerberos tickets are in a %s: cache, which cannot be read here: get them with KRB5CCNAME=FILE:/path kinit", kind)
		}
		cache = path
	}
	config := k.Config
	if config == "" {
		config = os.Getenv("KRB5_CONFIG")
	}
	if config == "" {
		config = "/etc/krb5.conf"
	}
	client, err := gssapi.NewClientFromCCache(cache, config)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%w: get a Kerberos ticket with kinit first", err)
		}
		return fmt.Errorf("Kerberos tickets in %s: %w", cache, err)
	}
	defer client.Close()
	if err := conn.GSSAPIBind(&anyRotation{client}, "ldap/"+host, ""); err != nil {
		return fmt.Errorf("Kerberos: %w", err)
	}
	return nil
}

// anyRotation brings the server's last token into the one layout that the library
// reads, which is that of domain controllers: MIT's servers rotate it otherwise.
type anyRotation struct{ *gssapi.Client }

// NegotiateSaslAuth implements [ldap.GSSAPIClient].
func (c *anyRotation) NegotiateSaslAuth(token []byte, authzid string) ([]byte, error) {
	return c.Client.NegotiateSaslAuth(checksumFirst(token), authzid)
}

// checksumFirst rotates a wrap token without confidentiality (RFC 4121, section
// 4.2.6.2) so that its checksum comes before its payload. What is no such token
// stays as it is.
func checksumFirst(token []byte) []byte {
	const header = 16
	if len(token) <= header {
		return token
	}
	body := token[header:]
	checksum := int(binary.BigEndian.Uint16(token[4:]))
	rotated := int(binary.BigEndian.Uint16(token[6:])) % len(body)
	if checksum > len(body) {
		return token
	}
	// To the right, by as much as is missing.
	shift := (checksum - rotated + len(body)) % len(body)
	out := slices.Clone(token[:header])
	binary.BigEndian.PutUint16(out[6:], uint16(checksum))
	out = append(out, body[len(body)-shift:]...)
	return append(out, body[:len(body)-shift]...)
}
