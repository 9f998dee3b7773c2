package fleet

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestProof depends on everything that is asked, and is what another implementation of HMAC makes of it:
// printf 'bootmend request 1\nC\n/v1/key\n%s\n' $(printf '{}' | sha256sum | cut -c-64) | openssl dgst -sha256 -hmac T
func TestProof(t *testing.T) {
	const want = "dccff1593c009fbff84ea33ccce3acc361d2f4e194210d649703c78dabab729a"
	proof := Token("T").Proof("C", "/v1/key", []byte("{}"))
	if proof != want {
		t.Errorf("proof %s", proof)
	}
	for name, ok := range map[string]bool{
		"the same":        Token("T").Check(proof, "C", "/v1/key", []byte("{}")),
		"no proof":        !Token("T").Check("", "C", "/v1/key", []byte("{}")),
		"other token":     !Token("U").Check(proof, "C", "/v1/key", []byte("{}")),
		"other challenge": !Token("T").Check(proof, "D", "/v1/key", []byte("{}")),
		"other path":      !Token("T").Check(proof, "C", "/v1/hello", []byte("{}")),
		"other body":      !Token("T").Check(proof, "C", "/v1/key", []byte("{} ")),
		"moved boundary":  !Token("T").Check(proof, "C\n/v1/key", "", []byte("{}")),
	} {
		if !ok {
			t.Error(name)
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
