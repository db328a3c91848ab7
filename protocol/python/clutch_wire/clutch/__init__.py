"""Generated from the contract in protocol/."""
