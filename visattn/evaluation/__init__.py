"""Evaluation: does a map tell the truth?"""
