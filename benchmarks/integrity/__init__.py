"""What happens to outputs when an operation fails, a process is killed, or a file is hostile: for the tests, and for
the whole campaign.
"""
