"""What an admin sees and does: workers, queue, people, reports, settings of the house."""
