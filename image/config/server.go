package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Server is where the agent asks for keys and sends its reports. The zero value is no server.
type Server struct {
	// URL is its address, such as "https://10.1.2.3:8443".
	URL string `yaml:"url"`
	// Fingerprint is the SHA-256 of its certificate, in hexadecimal: no other certificate is accepted.
	Fingerprint string `yaml:"fingerprint"`
	// Token proves that the machine was booted by this server. It never crosses the network in an exchange with it.
	Token string `yaml:"token"`
}

// The length of a token, in characters.
const (
	minToken = 16
	maxToken = 128
)

// IsZero reports whether there is no server.
func (s Server) IsZero() bool { return s == Server{} }

// Format writes the server's address, whatever the verb: its token is for nobody's eyes.
func (s Server) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.URL)) }

// Pin is the fingerprint as bytes.
func (s Server) Pin() (pin [32]byte, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s.Fingerprint, ":", ""))
	if err != nil || len(b) != len(pin) {
		return pin, errors.New("fingerprint is not the SHA-256 of a certificate: use its 64 hexadecimal digits")
	}
	return [32]byte(b), nil
}

// Validate says what is wrong with s.
func (s Server) Validate() error {
	if s.IsZero() {
		return nil
	}
	u, err := url.Parse(s.URL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery+u.Fragment != "" {
		return errors.New("url is not usable: use https://HOST:PORT")
	}
	if _, err := s.Pin(); err != nil {
		return err
	}
	foreign := func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-' && r != '_'
	}
	if len(s.Token) < minToken || len(s.Token) > maxToken || strings.ContainsFunc(s.Token, foreign) {
		return fmt.Errorf("token is not usable: use %d to %d of A-Z, a-z, 0-9, - and _", minToken, maxToken)
	}
	return nil
}
