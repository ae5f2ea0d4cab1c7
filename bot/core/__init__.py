"""The domain: requests, the fair queue, dispatch and delivery. Knows no platform, model, engine or clock."""
