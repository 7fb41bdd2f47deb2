"""Making a case set of any source: manifest, images, splits by patient, and a data card."""
