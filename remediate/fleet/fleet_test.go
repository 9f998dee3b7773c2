package fleet

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestProof depends on everything that is asked, and is what another implementation of HMAC makes of it:
// printf 'bootmend request 1\nC\n/v1/key\n%s\n' $(printf '{}' | sha256sum | cut -c-64) | openssl dgst -sha256 -hmac T
func TestProof(t *testing.T) {
	const want = "dccff1593c009fbff84ea33ccce3acc361d2f4e194210d649703c78dabab729a"
	proof := Token("T").Proof("C", "/v1/key", sha256.Sum256([]byte("{}")))
	if proof != want {
		t.Errorf("proof %s", proof)
	}
	for name, ok := range map[string]bool{
		"the same":        Token("T").Check(proof, "C", "/v1/key", sha256.Sum256([]byte("{}"))),
		"no proof":        !Token("T").Check("", "C", "/v1/key", sha256.Sum256([]byte("{}"))),
		"other token":     !Token("U").Check(proof, "C", "/v1/key", sha256.Sum256([]byte("{}"))),
		"other challenge": !Token("T").Check(proof, "D", "/v1/key", sha256.Sum256([]byte("{}"))),
		"other path":      !Token("T").Check(proof, "C", "/v1/hello", sha256.Sum256([]byte("{}"))),
		"other body":      !Token("T").Check(proof, "C", "/v1/key", sha256.Sum256([]byte("{} "))),
		"moved boundary":  !Token("T").Check(proof, "C\n/v1/key", "", sha256.Sum256([]byte("{}"))),
	} {
		if !ok {
			t.Error(name)
		}
	}
}

// TestDigest is what another implementation makes of it: printf '{"hello": "world"}' | openssl dgst -sha256 -binary | base64
func TestDigest(t *testing.T) {
	const want = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"
	sum := sha256.Sum256([]byte(`{"hello": "world"}`))
	if got := Digest(sum); got != want {
		t.Errorf("%s", got)
	}
	if got, ok := ParseDigest(want); !ok || got != sum {
		t.Errorf("%x, %v", got, ok)
	}
	for _, bad := range []string{"", want[1:], want[:len(want)-1], "sha-256=::", "sha-256=:AAAA:", "sha-512" + want[7:], want + ",", "sha-256=:%%%:"} {
		if _, ok := ParseDigest(bad); ok {
			t.Errorf("%q was taken", bad)
		}
	}
}

// TestSecretsStayHidden prints what holds secrets.
func TestSecretsStayHidden(t *testing.T) {
	const key = "111111-222222-333333-444444-555555-666666-111111-222222"
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{Token("secret-token"), KeyAnswer{Given, key}, struct{ T Token }{"secret-token"}} {
			if text := fmt.Sprintf(verb, v); strings.Contains(text, "secret") || strings.Contains(text, "333333") || strings.Contains(text, fmt.Sprintf("%x", "secret")) {
				t.Errorf("%s of %T shows it: %s", verb, v, text)
			}
		}
	}
	if data, err := json.Marshal(KeyAnswer{Given, key}); err != nil || !strings.Contains(string(data), key) {
		t.Errorf("the machine must get it: %s, %v", data, err)
	}
}
