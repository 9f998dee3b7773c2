// Package ad reads the recovery keys that computers have stored in Active
// Directory: a [Source] searches a domain controller for
// msFVE-RecoveryInformation objects (MS-ADSC, section 2.164), each a child of its
// computer, over LDAP (RFC 4511) with TLS.
package ad
