"""Networks: (X-ray, DRR) -> mask logits, attention logits, attention."""
