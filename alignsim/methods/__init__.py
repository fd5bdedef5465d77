"""Methods: what differs between them (data, loss, stages), on one supervised and one policy-gradient loop."""
