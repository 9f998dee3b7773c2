package main

import "github.com/spf13/cobra"

func newKeysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Seal recovery keys and open vaults",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help()
			return usagef("keys: name what to do: seal or open")
		},
	}
	cmd.AddCommand(newKeysSealCommand(), newKeysOpenCommand())
	return cmd
}
