package main

import "github.com/spf13/cobra"

func newKeysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Get, check, convert and seal recovery keys",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help()
			return usagef("keys: name what to do: check, convert, fetch, match, sheet, seal or open")
		},
	}
	cmd.AddCommand(newKeysCheckCommand(), newKeysConvertCommand(), newKeysFetchCommand(), newKeysMatchCommand(), newKeysSheetCommand(), newKeysSealCommand(), newKeysOpenCommand())
	return cmd
}

// keyFormats tells in help texts what the files may be.
const keyFormats = `FILE is in any format that keys are kept in, told by its content: CSV exports of Active Directory,
Entra ID, MBAM, ConfigMgr and others; the files that Windows saves, in any language; the output of
manage-bde -protectors -get; LDIF of ldapsearch and ldifde; JSON of Graph, Get-BitLockerVolume and
others; lists of bare keys; .BEK startup keys; a folder of such files; or - for the standard input.`
