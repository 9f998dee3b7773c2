// Package fleet is what a machine under repair and the control server of its site say to each other: the machine
// tells of itself and is told whether to heal, asks for the key of a volume, and hands its log in.
//
// Everything goes over TLS 1.3, and the machine knows the server by the SHA-256 of its certificate, which came with the
// media ([Client]). The server knows the machine by a token that came with the media, too. The token is never sent:
// each request carries a challenge of the server's and a proof made with the token ([Token.Proof]), over the challenge and
// all that is asked. The server is package control.
package fleet

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/bootmend/bootmend/remediate"
)

// The paths that a machine posts to. A challenge is had for nothing; all others take JSON and a proof, but for the log,
// which is posted as it is.
const (
	PathChallenge = "/v1/challenge"
	PathHello     = "/v1/hello"
	PathKey       = "/v1/key"
	PathStep      = "/v1/step"
	PathReport    = "/v1/report"
)

// The headers of a request with a proof. An answer carries the challenge of the next request. The digest lets a server
// check the proof before it reads the body ([Digest]).
const (
	HeaderChallenge = "Bootmend-Challenge"
	HeaderProof     = "Bootmend-Proof"
	HeaderDigest    = "Content-Digest"
)

// MaxRequest and MaxReport bound what a server reads of a request and of a log, in bytes.
const (
	MaxRequest = 16 << 10
	MaxReport  = remediate.MaxLogSize
)

// Token is the secret of a server and its media. It does not print.
type Token string

// Format keeps the token out of logs, whatever the verb.
func (Token) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("token (withheld)")) }

// Digest is the value of [HeaderDigest] for the SHA-256 of a body (RFC 9530, section 2).
func Digest(sum [sha256.Size]byte) string {
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

// ParseDigest reads what [Digest] has written.
func ParseDigest(header string) (sum [sha256.Size]byte, ok bool) {
	text, ok := strings.CutPrefix(header, "sha-256=:")
	text, end := strings.CutSuffix(text, ":")
	b, err := base64.StdEncoding.DecodeString(text)
	if !ok || !end || err != nil || len(b) != len(sum) {
		return sum, false
	}
	return [sha256.Size]byte(b), true
}

// Proof is what shows that a request comes from who has the token: HMAC-SHA-256 (RFC 2104) with it, over the challenge,
// the path and the SHA-256 of the body, in hexadecimal.
func (t Token) Proof(challenge, path string, body [sha256.Size]byte) string {
	mac := hmac.New(sha256.New, []byte(t))
	fmt.Fprintf(mac, "bootmend request 1\n%s\n%s\n%x\n", challenge, path, body)
	return hex.EncodeToString(mac.Sum(nil))
}

// Check reports whether a proof is right, in a time that says nothing of how wrong it is.
func (t Token) Check(proof, challenge, path string, body [sha256.Size]byte) bool {
	return hmac.Equal([]byte(proof), []byte(t.Proof(challenge, path, body)))
}

// Hello begins a run.
type Hello struct {
	Run     string             `json:"run"`
	Machine remediate.Identity `json:"machine"`
	Version string             `json:"version"`
}

// Decision is what a machine is to do.
type Decision string

// The decisions.
const (
	Heal   Decision = "heal"
	DryRun Decision = "dry-run"
	Leave  Decision = "leave" // change nothing and go on to Windows
)

// Welcome answers a Hello.
type Welcome struct {
	Decision Decision `json:"decision"`
	Reason   string   `json:"reason,omitempty"` // for people, where it is not Heal
}

// KeyRequest asks for the recovery password of one key protector of one volume.
type KeyRequest struct {
	Run       string             `json:"run"`
	Machine   remediate.Identity `json:"machine"`
	Protector string             `json:"protector"` // its GUID
	Volume    string             `json:"volume"`    // its description, for people
}

// KeyState says what came of a KeyRequest.
type KeyState string

// The states. A server does not tell a key that it must not give from one that it does not have.
const (
	Given KeyState = "given"
	Wait  KeyState = "wait" // a person has to act at the server; ask again
)

// KeyAnswer answers a KeyRequest.
type KeyAnswer struct {
	State KeyState `json:"state"`
	Key   string   `json:"key,omitempty"` // 48 digits in groups, where it is given
}

// Format withholds the key.
func (a KeyAnswer) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(a.State)) }

// Step tells how far a run is.
type Step struct {
	Run  string `json:"run"`
	Step string `json:"step"`
}
