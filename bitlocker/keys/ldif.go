package keys

import (
	"encoding/base64"
	"strings"

	"github.com/bootmend/bootmend/bitlocker"
)

// looksLikeLDIF recognises an LDIF file (RFC 2849) by its first line that is not
// blank, a comment or the version.
func looksLikeLDIF(text string) bool {
	lines := lineReader{rest: text}
	for range 100 {
		line, ok := lines.next()
		if !ok {
			return false
		}
		if line == "" || line[0] == '#' || line[0] == ' ' {
			continue
		}
		name, _, ok := strings.Cut(line, ":")
		if strings.EqualFold(name, "version") && ok {
			continue
		}
		return ok && strings.EqualFold(name, "dn")
	}
	return false
}

// recoveryObject is an msFVE-RecoveryInformation object of a directory (MS-ADA2,
// sections 2.515 and following).
type recoveryObject struct {
	line                int
	dn, name, password  string
	id                  string // octets, or text
	recoveryInformation bool
}

// The attributes that count, in lower case.
const (
	attrPassword = "msfve-recoverypassword"
	attrGUID     = "msfve-recoveryguid"
	classFVE     = "msfve-recoveryinformation"
)

func (o *recoveryObject) set(attr, value string) {
	switch attr {
	case "dn", "distinguishedname":
		o.dn = value
	case "cn", "name":
		o.name = value
	case attrPassword:
		o.password = value
	case attrGUID:
		o.id = value
	case "objectclass":
		o.recoveryInformation = o.recoveryInformation || strings.EqualFold(value, classFVE)
	}
}

// object adds what an object says. Others than recovery objects say nothing.
func (c *collector) object(o recoveryObject) {
	f := fields{id: o.id, key: o.password, objects: []string{o.dn, o.name}}
	if len(o.id) == len(bitlocker.GUID{}) {
		f.id = bitlocker.GUID([]byte(o.id)).String()
	}
	switch {
	case o.password != "":
		c.fields(o.line, f)
	case o.recoveryInformation || o.id != "":
		p := RowError{Line: o.line, Kind: NoKey, Reason: noPassword}
		p.ID, _ = f.onlyID()
		c.report(p)
	}
}

const noPassword = "the recovery object has no msFVE-RecoveryPassword: whoever reads the directory needs the right to read it, or to control the object"

// ldif reads what ldapsearch and ldifde write (RFC 2849): values in base64 behind
// two colons, long lines folded before a blank.
func (c *collector) ldif(text string) {
	var (
		lines  = lineReader{rest: text}
		object = recoveryObject{line: 1}
		logic  strings.Builder // a line with those that continue it
		start  int
	)
	attribute := func() {
		line := logic.String()
		logic.Reset()
		if line == "" || line[0] == '#' {
			return
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return
		}
		name, _, _ = strings.Cut(name, ";") // options
		name = strings.ToLower(strings.TrimSpace(name))
		if encoded, ok := strings.CutPrefix(value, ":"); ok {
			data, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
			if err != nil {
				if name == attrPassword || name == attrGUID || name == "dn" {
					c.problem(start, Unreadable, "the value of %s is not base64", name)
				}
				return
			}
			value = string(data)
		} else {
			value = strings.TrimSpace(value)
		}
		if name == "dn" {
			c.object(object) // one without a blank line behind it
			object = recoveryObject{line: start}
		}
		object.set(name, value)
	}
	for {
		line, ok := lines.next()
		if !ok {
			break
		}
		switch {
		case len(line) > maxLine || logic.Len() > maxLine:
			logic.Reset()
			c.problem(lines.line, Unreadable, "%v", errLongLine)
		case strings.HasPrefix(line, " ") && logic.Len() > 0:
			logic.WriteString(line[1:])
		default:
			attribute()
			start = lines.line
			logic.WriteString(line)
			if line == "" {
				c.object(object)
				object = recoveryObject{line: lines.line + 1}
			}
		}
	}
	attribute()
	c.object(object)
}
