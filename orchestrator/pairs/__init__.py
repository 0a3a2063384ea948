"""What could draft for a target: the models and heads on this machine, and what each could win at best."""
