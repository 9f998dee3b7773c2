package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// licenceFile is what a licence or a notice to be passed on is called.
var licenceFile = regexp.MustCompile(`(?i)^((.+-)?licen[cs]es?|copying|copyright|notice|patents|unlicense)(\..*)?$`)

// licenceSection is what a README says of it.
var licenceSection = regexp.MustCompile(`(?ims)^(#+ *licen[cs]e\b.*?)(?:^#|\z)`)

func plainText(data []byte) string {
	return strings.TrimSpace(strings.ReplaceAll(string(data), "\r\n", "\n"))
}

// runLicences collects what has to be passed on with the Go modules that programs are made of.
func runLicences(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("licences", flag.ContinueOnError)
	out := flags.String("o", "assets/embedded/licences.txt", "write the texts to `FILE`")
	targets := flags.String("targets", "linux/amd64", "look at what is built for these systems, `OS/ARCH OS/ARCH`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("licences: name the programs' packages")
	}
	dirs := map[string][]string{} // by module and version
	for _, target := range strings.Fields(*targets) {
		if err := listModules(ctx, target, flags.Args(), dirs); err != nil {
			return err
		}
	}
	text, err := licenceTexts(dirs)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(*out), 0o755); err != nil {
		return err
	}
	logf("%s: %d bytes for %d modules", *out, len(text), len(dirs))
	return writeWhole(*out, text)
}

// listModules adds the folders, of modules and of their packages, that programs are built from. The standard library counts
// as a module.
func listModules(ctx context.Context, target string, packages []string, dirs map[string][]string) error {
	system, arch, ok := strings.Cut(target, "/")
	if !ok {
		return fmt.Errorf("licences: %q is no OS/ARCH", target)
	}
	const format = `{{if .Standard}}Go standard library` + "\t{{.Root}}\t{{.Root}}" +
		`{{else if .Module}}{{if not .Module.Main}}{{.Module.Path}} {{.Module.Version}}` + "\t{{.Module.Dir}}\t{{.Dir}}" + `{{end}}{{end}}`
	cmd := exec.CommandContext(ctx, "go", append([]string{"list", "-deps", "-f", format}, packages...)...)
	cmd.Env = append(os.Environ(), "GOOS="+system, "GOARCH="+arch, "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	lines, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("licences: go list for %s: %w: %s", target, err, strings.TrimSpace(stderr.String()))
	}
	for line := range strings.Lines(string(lines)) {
		field := strings.Split(strings.TrimSpace(line), "\t")
		if len(field) != 3 {
			continue
		}
		for _, dir := range field[1:] {
			if !slices.Contains(dirs[field[0]], dir) {
				dirs[field[0]] = append(dirs[field[0]], dir)
			}
		}
	}
	return nil
}

// licenceTexts writes the list of modules, and each text once with the modules that it is of.
func licenceTexts(dirs map[string][]string) ([]byte, error) {
	var modules, texts []string
	for module := range dirs {
		modules = append(modules, module)
	}
	slices.Sort(modules)
	of := map[string][]string{}
	for _, module := range modules {
		found := false
		add := func(text string) {
			found = true
			if of[text] == nil {
				texts = append(texts, text)
			}
			if !slices.Contains(of[text], module) {
				of[text] = append(of[text], module)
			}
		}
		for _, dir := range dirs[module] {
			files, err := os.ReadDir(dir)
			if err != nil {
				return nil, fmt.Errorf("licences of %s: %w", module, err)
			}
			for _, file := range files {
				if !file.Type().IsRegular() || !licenceFile.MatchString(file.Name()) || strings.HasSuffix(file.Name(), ".go") {
					continue
				}
				data, err := os.ReadFile(filepath.Join(dir, file.Name()))
				if err != nil {
					return nil, err
				}
				add(plainText(data))
			}
		}
		if !found {
			readme, err := os.ReadFile(filepath.Join(dirs[module][0], "README.md"))
			if section := licenceSection.FindStringSubmatch(plainText(readme)); err == nil && section != nil {
				add("Of its README:\n\n" + section[1])
			}
		}
		if !found {
			return nil, fmt.Errorf("licences: %s has no licence file: look how it may be passed on, and leave it out if it may not", module)
		}
	}
	var out bytes.Buffer
	rule := strings.Repeat("=", 78)
	fmt.Fprintf(&out, "%s\nThe programs of bootmend are made of these Go modules. Their licences follow.\n\n", rule)
	for _, module := range modules {
		fmt.Fprintf(&out, "  %s\n", module)
	}
	for _, text := range texts {
		fmt.Fprintf(&out, "\n%s\n%s\n\n%s\n", rule, strings.Join(of[text], ", "), text)
	}
	return out.Bytes(), nil
}
