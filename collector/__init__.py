"""What runs in processes of its own, between the blades and the monitors."""
