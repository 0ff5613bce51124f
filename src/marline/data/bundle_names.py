"""Names of the files in a bundle; imports nothing, for those who only read one."""

CONTRACT, POLICY = "contract.json", "policy.onnx"
