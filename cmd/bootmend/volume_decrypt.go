package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/image/output"
)

type volumeDecryptOptions struct {
	output    string
	keyFile   string
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
` + exitHelp,
		Example: `  bootmend volume decrypt disk.img -o clear.img --key-file keys.csv
  sudo bootmend volume decrypt /dev/sdb3 -o clear.img`,
		Args: oneArgument("a volume, disk or image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if opts.output == "" {
				return usagef("volume decrypt: -o OUT is missing")
			}
			return runVolumeDecrypt(cmd.Context(), cmd.ErrOrStderr(), args[0], opts)
		},
	}
	cmd.Flags().StringVarP(&opts.output, "output", "o", "", "file to write")
	cmd.Flags().StringVar(&opts.keyFile, "key-file", "", "file with the key (default: ask on the terminal)")
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
	secret, err := readSecret(opts.keyFile)
	if err != nil {
		return err
	}
	// The output's place is made sure of before anybody types 48 digits.
	out, err := output.Create(opts.output, true)
	if err != nil {
		return err
	}
	defer out.Discard()

	key, protector, err := unlock(ctx, messages, m, secret)
	if err != nil {
		return fmt.Errorf("%s: %w", src.where(found[0]), err)
	}
	defer key.Wipe()
	if protector != nil {
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
