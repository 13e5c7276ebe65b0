"""What people who come from other tools bring along."""
