// Package config is what the person who builds the media decides for the agent that runs on it: a small YAML
// file, bootmend/config.yaml, read with [Parse] on the broken machine and written with [Config.Marshal].
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// Path is where the file lies on the media.
const Path = "bootmend/config.yaml"

// NetMediaDir is where a machine that was started over a network finds the files of media in its root file system.
const NetMediaDir = "media"

// sizeLimit bounds what Parse reads: the file is written by people and by this program, never large.
const sizeLimit = 64 << 10

// Action is what the machine does when the agent has finished.
type Action string

// The actions of on_success and on_failure.
const (
	Reboot   Action = "reboot"
	PowerOff Action = "poweroff"
	Wait     Action = "wait"
)

// UnmarshalText accepts the three actions and nothing else.
func (a *Action) UnmarshalText(text []byte) error {
	switch v := Action(text); v {
	case Reboot, PowerOff, Wait:
		*a = v
		return nil
	}
	return fmt.Errorf("%q is not an action: use reboot, poweroff or wait", text)
}

// Set makes an Action a command-line flag.
func (a *Action) Set(s string) error { return a.UnmarshalText([]byte(s)) }

// String is the word used in the file.
func (a Action) String() string { return string(a) }

// Type names the value in help texts.
func (a Action) Type() string { return "reboot|poweroff|wait" }

// Config is the agent's configuration.
type Config struct {
	// DryRun makes the agent show its plan and change nothing.
	DryRun bool `yaml:"dry_run"`
	// OnSuccess is done when every Windows found is healed or needs nothing.
	OnSuccess Action `yaml:"on_success"`
	// OnFailure is done when something needs a person.
	OnFailure Action `yaml:"on_failure"`
	// Countdown is how long the result stays on the screen before OnSuccess; zero goes on at once.
	Countdown time.Duration `yaml:"countdown"`
	// AllMatching also takes the files of the right kind that no longer are the faulty version.
	AllMatching bool `yaml:"all_matching"`
	// AllowUnsignedRules also uses rule packs that have no signature, or one that does not fit.
	AllowUnsignedRules bool `yaml:"allow_unsigned_rules"`
	// DiscardHibernation also heals a hibernated Windows; the session that it would resume is lost.
	DiscardHibernation bool `yaml:"discard_hibernation"`
	// Server is asked for keys and gets the reports.
	Server Server `yaml:"server"`
}

// Default is what an absent file means.
func Default() Config {
	return Config{OnSuccess: Reboot, OnFailure: Wait, Countdown: 5 * time.Second}
}

// maxCountdown keeps a mistyped value from parking a machine for days.
const maxCountdown = time.Hour

// Validate says what is wrong with c.
func (c Config) Validate() error {
	if c.Countdown < 0 || c.Countdown > maxCountdown {
		return fmt.Errorf("countdown %s is out of range: use 0s to %s", c.Countdown, maxCountdown)
	}
	for name, action := range map[string]Action{"on_success": c.OnSuccess, "on_failure": c.OnFailure} {
		if err := new(Action).UnmarshalText([]byte(action)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := c.Server.Validate(); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	return nil
}

// Parse reads the file; what it does not set keeps its default. Unknown fields are errors, so that a
// misspelt "dry_run" can never turn into a repair.
func Parse(data []byte) (Config, error) {
	c := Default()
	if len(data) > sizeLimit {
		return c, fmt.Errorf("configuration is %d bytes, more than the %d allowed", len(data), sizeLimit)
	}
	loader, err := yaml.NewLoader(bytes.NewReader(data), yaml.WithKnownFields())
	if err != nil {
		return Default(), fmt.Errorf("configuration: %w", oneLine(err))
	}
	if err := loader.Load(&c); errors.Is(err, io.EOF) {
		return Default(), nil // nothing but comments
	} else if err != nil {
		return Default(), fmt.Errorf("configuration: %w", oneLine(err))
	}
	if err := c.Validate(); err != nil {
		return Default(), fmt.Errorf("configuration: %w", err)
	}
	return c, nil
}

// Marshal writes the file with a word on each field for the administrator who edits it on the stick.
func (c Config) Marshal() ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	data := fmt.Appendf(nil, `# bootmend: what the agent on this medium does. Edit and boot again.
dry_run: %t        # true: show the plan, change nothing
on_success: %s     # reboot, poweroff or wait
on_failure: %s     # wait, reboot or poweroff
countdown: %s      # how long the result is shown before on_success
all_matching: %t   # true: also take files that are no longer the faulty version
allow_unsigned_rules: %t   # true: also use rule packs that nobody trusted has signed
discard_hibernation: %t    # true: also heal a hibernated Windows; what was open in it and not saved is lost
`, c.DryRun, c.OnSuccess, c.OnFailure, c.Countdown, c.AllMatching, c.AllowUnsignedRules, c.DiscardHibernation)
	if !c.Server.IsZero() {
		data = fmt.Appendf(data, `server:                    # where keys are asked for and reports go
  url: %q
  fingerprint: %q
  token: %q
`, c.Server.URL, c.Server.Fingerprint, c.Server.Token)
	}
	return data, nil
}

// oneLine folds the library's list of errors into a sentence for a console.
func oneLine(err error) error {
	return errors.New(strings.Join(strings.Fields(err.Error()), " "))
}
