"""What happens to outputs when an operation fails, a process is killed, or a file is malicious: for the tests and for
the full campaign.
"""
