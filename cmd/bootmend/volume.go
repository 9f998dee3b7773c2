package main

import "github.com/spf13/cobra"

func newVolumeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "volume",
		Short: "Look at BitLocker volumes and decrypt them",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help()
			return usagef("volume: name what to do: info or decrypt")
		},
	}
	cmd.AddCommand(newVolumeInfoCommand(), newVolumeDecryptCommand())
	return cmd
}
