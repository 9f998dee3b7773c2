package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/keys"
	"github.com/bootmend/bootmend/image/output"
)

type volumeDecryptOptions struct {
	output    string
	keyFile   string
	fvekFile  string
	vmkFile   string
	tryAll    bool
	partition int
}

func newVolumeDecryptCommand() *cobra.Command {
	var opts volumeDecryptOptions
	cmd := &cobra.Command{
		Use:   "decrypt PATH -o OUT",
		Short: "Write the clear content of a BitLocker volume to a file",
		Long: `Write the clear content of a BitLocker volume to a file, for a forensic look or to save data. The
volume is only read.

PATH is a volume, a whole disk, or an image of either. The key file is a recovery password, a user
password, a key list or a .BEK startup key; which of them it is, its content tells. Without one,
the key is asked for on the terminal. A volume whose protection is suspended needs no key.

Of a key list, those with the ID of one of the volume's protectors or its computer's name are tried.
--try-all tries all the others, too, on every processor; how long that takes at most is said first.

The volume's own keys can be given instead, as bytes or hexadecimal digits: --vmk-file with the volume
master key (32 bytes), --fvek-file with the key of the sectors (also with two bytes for the method in
front, as dislocker takes it).
` + exitHelp,
		Example: `  bootmend volume decrypt disk.img -o clear.img --key-file keys.csv
  bootmend volume decrypt disk.img -o clear.img --key-file all-keys.csv --try-all
  sudo bootmend volume decrypt /dev/sdb3 -o clear.img`,
		Args: oneArgument("a volume, disk or image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if opts.output == "" {
				return usagef("volume decrypt: -o OUT is missing")
			}
			if opts.tryAll && opts.keyFile == "" {
				return usagef("volume decrypt: --try-all needs a key list, see --key-file")
			}
			return runVolumeDecrypt(cmd.Context(), cmd.ErrOrStderr(), args[0], opts)
		},
	}
	cmd.Flags().StringVarP(&opts.output, "output", "o", "", "file to write")
	cmd.Flags().StringVar(&opts.keyFile, "key-file", "", "file with the key (default: ask on the terminal)")
	cmd.Flags().StringVar(&opts.fvekFile, "fvek-file", "", "file with the key that the sectors are encrypted with (FVEK)")
	cmd.Flags().StringVar(&opts.vmkFile, "vmk-file", "", "file with the volume master key (VMK)")
	cmd.Flags().BoolVar(&opts.tryAll, "try-all", false, "try every key of the list, whatever ID or computer it is for")
	cmd.MarkFlagsMutuallyExclusive("key-file", "fvek-file", "vmk-file")
	cmd.Flags().IntVar(&opts.partition, "partition", 0, "which partition, where a disk has several BitLocker volumes")
	return cmd
}

func runVolumeDecrypt(ctx context.Context, messages io.Writer, path string, opts volumeDecryptOptions) error {
	src, err := openSource(path)
	if err != nil {
		return err
	}
	defer src.Close()
	found, err := src.bitLocker(opts.partition)
	if err != nil {
		return err
	}
	if len(found) > 1 {
		return withHint(fmt.Errorf("%s has %d BitLocker volumes", path, len(found)), "choose one with --partition; \"bootmend volume info\" lists them")
	}
	section := src.section(found[0])
	m, err := bitlocker.ReadMetadata(section, found[0].Size)
	if err != nil {
		return fmt.Errorf("%s: %w", src.where(found[0]), err)
	}
	find, err := opts.keyFinder(messages, section, m)
	if err != nil {
		return err
	}
	// The output's place is made sure of before anybody types 48 digits.
	out, err := output.Create(opts.output, true)
	if err != nil {
		return err
	}
	defer out.Discard()

	key, protector, err := find(ctx)
	if err != nil {
		return explainLocked(fmt.Errorf("%s: %w", src.where(found[0]), err), m)
	}
	defer key.Wipe()
	if protector != nil { // nil: by a raw key
		fmt.Fprintf(messages, "bootmend: unlocked by %s %s\n", protector.Kind, protector.ID)
	}
	volume, err := bitlocker.OpenVolume(section, m, key)
	if err != nil {
		return err
	}
	if err := out.Truncate(volume.Size()); err != nil {
		return out.Explain(err, volume.Size())
	}
	progress, finish := newProgress(messages, "decrypting")
	err = volume.Decrypt(ctx, out, progress)
	finish()
	if err == nil {
		err = out.Commit()
	}
	if err != nil {
		return fmt.Errorf("decrypting %s to %w", src.where(found[0]), out.Explain(err, volume.Size()))
	}
	return nil
}

// keyFinder reads the key file and gives what opens the volume with it.
func (o *volumeDecryptOptions) keyFinder(messages io.Writer, volume io.ReaderAt, m *bitlocker.Metadata) (keyFinder, error) {
	if path := o.fvekFile + o.vmkFile; path != "" {
		data, err := readRawKey(path)
		if err != nil {
			return nil, err
		}
		return func(context.Context) (*bitlocker.VolumeKey, *bitlocker.Protector, error) {
			defer clear(data)
			var key *bitlocker.VolumeKey
			if o.vmkFile != "" {
				key, err = m.UnlockVMK(data)
			} else {
				key, err = m.UnlockFVEK(volume, data)
			}
			if err != nil {
				err = fmt.Errorf("key file %s: %w", path, err)
			}
			return key, nil, err
		}, nil
	}
	secret, err := readSecret(o.keyFile)
	if err != nil {
		return nil, err
	}
	if o.tryAll && secret.list == nil {
		return nil, fmt.Errorf("--try-all: %s is no key list", o.keyFile)
	}
	return func(ctx context.Context) (*bitlocker.VolumeKey, *bitlocker.Protector, error) {
		if o.tryAll {
			return tryAll(ctx, messages, m, secret.list)
		}
		progress, finish := newBar(messages, "deriving the key")
		defer finish()
		return unlock(bitlocker.WithProgress(ctx, progress), messages, m, secret)
	}, nil
}

type keyFinder func(ctx context.Context) (*bitlocker.VolumeKey, *bitlocker.Protector, error)

// readRawKey reads a small file.
func readRawKey(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 4096))
	if err == nil && len(data) == 0 {
		err = fmt.Errorf("key file %s is empty", path)
	}
	return data, err
}

// estimateAfter is how long keys are tried before it is said how long all of them may take.
const estimateAfter = 2 * time.Second

// tryAll tries a whole list, says once how long that takes at most, and which line of the list fitted.
func tryAll(ctx context.Context, messages io.Writer, m *bitlocker.Metadata, list *keys.List) (*bitlocker.VolumeKey, *bitlocker.Protector, error) {
	draw, finish := newBar(messages, "trying keys")
	start, said := time.Now(), false
	key, match, err := list.MatchAll(bitlocker.WithProgress(ctx, func(done, total int64) {
		if took := time.Since(start); !said && done > 0 && took >= estimateAfter {
			said = true
			rest := time.Duration(float64(took) / float64(done) * float64(total-done))
			fmt.Fprintf(messages, "bootmend: trying every key of the list takes %v more at most\n", rest.Round(time.Second))
		}
		if draw != nil {
			draw(done, total)
		}
	}), m)
	finish()
	if err == nil {
		fmt.Fprintf(messages, "bootmend: the key of line %d of %s fits\n", match.Line, match.File)
	}
	return key, match.Protector, err
}

// explainLocked adds to a key that does not fit what would.
func explainLocked(err error, m *bitlocker.Metadata) error {
	if errors.Is(err, bitlocker.ErrWrongKey) || errors.Is(err, bitlocker.ErrNoProtector) {
		return withHint(err, "%s", m.Wanted())
	}
	return err
}
