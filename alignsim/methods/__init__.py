"""Methods: what differs between them (data, loss, stages), on one policy_fit and one policy-gradient loop."""
