package ad

import (
	"crypto/x509"
	"fmt"

	"github.com/go-ldap/ldap/v3"
	"github.com/go-ldap/ldap/v3/gssapi"
)

// Kerberos is a login as the user that is logged on.
type Kerberos struct {
	Cache, Config string // of other systems; not used
}

func (Kerberos) secret() bool { return false }

func (k Kerberos) bind(conn *ldap.Conn, host string, certificate *x509.Certificate) error {
	var client *gssapi.SSPIClient
	var err error
	if certificate != nil {
		// Domain controllers may ask that the login belongs to the connection.
		client, err = gssapi.NewSSPIClientWithChannelBinding(certificate)
	} else {
		client, err = gssapi.NewSSPIClient()
	}
	if err != nil {
		return fmt.Errorf("Kerberos: %w", err)
	}
	defer client.Close()
	if err := conn.GSSAPIBind(client, "ldap/"+host, ""); err != nil {
		return fmt.Errorf("Kerberos: %w", err)
	}
	return nil
}
