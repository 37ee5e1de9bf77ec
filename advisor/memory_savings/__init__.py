"""What holds the memory at the advised batch, and what changes to the code would save."""
