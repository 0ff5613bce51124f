"""One team in the real world: train, deploy, bring its logs back, tune, again."""
