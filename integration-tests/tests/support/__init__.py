"""What the tests share: real agents, real drivers, and looking at processes."""
