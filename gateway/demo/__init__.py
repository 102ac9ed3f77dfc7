"""`sluicegate demo`: the whole job on one machine, with a small real model behind a real gateway."""
