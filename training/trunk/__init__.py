"""What all tasks share: texts and pictures, encoded and fused."""
