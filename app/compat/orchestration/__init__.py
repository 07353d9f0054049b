"""Civitai's orchestration API: jobs (v1) and workflows (v2), over our own jobs.

A workflow is one row that keeps its jobs together; what a step asks for becomes one or more of our jobs in
the transaction that makes the row, so that nothing is lost and nothing is done twice.
"""
