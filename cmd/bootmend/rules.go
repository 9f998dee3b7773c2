package main

import "github.com/spf13/cobra"

func newRulesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "Check, show, try out and sign rule packs",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help()
			return usagef("rules: name what to do: check, show, test, sign or keygen")
		},
	}
	cmd.AddCommand(newRulesCheckCommand(), newRulesShowCommand(), newRulesTestCommand(), newRulesSignCommand(), newRulesKeygenCommand())
	return cmd
}
