"""What `harness plugins new` writes: a module, its test and a plan for each kind of component. `my-plugin` stands for the name."""
