"""What the subcommands do; each is imported only when it runs."""
