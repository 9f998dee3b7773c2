// Package entra reads the recovery keys that computers have stored in Microsoft
// Entra ID, through Microsoft Graph: a [Source] lists the keys, page by page, and
// asks for each by itself, since Graph gives them in no other way and writes each
// answer into the tenant's audit log (Graph, "Get bitlockerRecoveryKey"). A person
// logs in with a code on any device (RFC 8628).
package entra
